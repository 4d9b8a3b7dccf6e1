"""What is open, and to whom: the maps that HAProxy looks up."""

from __future__ import annotations

import json
from typing import Any

from tests.unit.gateway.plans import KEYS, SECRETS, SETTINGS, guide, server
from vllm_fleet.gateway.plan import make_gateway_plan

TWO_LLMS = {"servers": [server("small", "llm", 1), server("large", "llm", 2), server("rerank", "rerank", 3)]}


def maps(*hosts: dict[str, Any], keys: object = None) -> dict[str, dict[str, str]]:
    plans = {each["servers"][0]["host"]: each for each in hosts}
    plan, _, problems = make_gateway_plan("gpu-1", plans, keys or KEYS, SECRETS, [], SETTINGS)
    assert plan is not None, problems
    return plan.maps


def test_the_shared_paths_are_the_guide_s_and_openai_s_and_no_others() -> None:
    shared = [request for request in maps(guide())["routes.map"] if "/servers/" not in request]
    assert sorted(shared) == [
        "GET./v1/models",
        "POST./rerank",
        "POST./score",
        "POST./v1/chat/completions",
        "POST./v1/completions",
        "POST./v1/embeddings",
        "POST./v1/rerank",
        "POST./v1/responses",
        "POST./v1/score",
        "POST./v2/rerank",
    ]


def test_paths_of_a_kind_that_is_not_served_are_shut() -> None:
    routes = maps({"servers": [server("llm", "llm", 1)]})["routes.map"]
    assert not any("rerank" in request or "embeddings" in request for request in routes)


def test_an_embedding_server_is_not_open_for_rerank_although_it_would_answer() -> None:
    routes = maps(guide())["routes.map"]
    assert "POST./servers/embedding/rerank" not in routes
    assert "POST./servers/embedding/v1/embeddings" in routes


def test_only_a_reranker_classifies_and_only_under_its_own_url() -> None:
    routes = maps(guide())["routes.map"]
    assert [request for request in routes if request.endswith("/classify")] == ["POST./servers/rerank/classify"]


def test_what_vllm_is_asked_comes_from_the_map() -> None:
    upstream = maps(guide())["upstream_paths.map"]
    assert upstream["POST./servers/rerank/rerank"] == "/rerank"
    assert upstream["POST./servers/llm/v1/chat/completions"] == "/v1/chat/completions"
    assert {path.split("/")[1] for path in upstream.values()} == {"v1", "v2", "rerank", "score", "classify"}


def test_every_open_request_has_a_path_to_ask_for() -> None:
    given = maps(guide(), guide("gpu-2", "10.0.0.2"))
    assert given["routes.map"].keys() == given["upstream_paths.map"].keys()
    assert {target for target in given["routes.map"].values() if target.startswith(("server.", "instance."))} == set(
        given["backends.map"]
    )


def test_one_replica_of_several_can_be_addressed() -> None:
    given = maps(guide(), guide("gpu-2.example.com", "10.0.0.2"))
    target = given["routes.map"]["POST./servers/llm@gpu-2.example.com/v1/chat/completions"]
    assert given["backends.map"][target] == "instance_llm:gpu-2.example.com"


def test_a_kind_with_one_server_needs_no_look_into_the_body() -> None:
    assert maps(guide())["only_servers.map"] == {
        "default.llm": "llm",
        "default.embedding": "embedding",
        "default.rerank": "rerank",
    }


def test_where_a_kind_has_several_servers_the_model_decides_unless_the_key_has_but_one() -> None:
    keys = [{"name": "default"}, {"name": "narrow", "key": "sk-narrow-0123456789", "servers": ["large"]}]
    given = maps(TWO_LLMS, keys=keys)
    assert given["only_servers.map"] == {"default.rerank": "rerank", "narrow.llm": "large"}
    assert given["servers_of_models.map"]["llm.small-model"] == "small"


def test_a_key_sees_and_reaches_only_its_servers() -> None:
    keys = [{"name": "default"}, {"name": "narrow", "key": "sk-narrow-0123456789", "servers": ["rerank"]}]
    given = maps(TWO_LLMS, keys=keys)
    assert [name for name in given["access.map"] if name.startswith("narrow.")] == ["narrow.rerank"]
    assert [one["id"] for one in json.loads(given["models.map"]["narrow"])["data"]] == ["rerank-model"]
    assert given["known.map"]["narrow.llm"] == "none"
    assert "large-model (also at https://gw.example.com:8443/servers/large/v1)" in given["known.map"]["default.llm"]


def test_the_list_of_models_is_the_union_and_tells_lengths() -> None:
    models = json.loads(maps(guide())["models.map"]["default"])
    assert models["object"] == "list"
    assert {one["id"]: one["max_model_len"] for one in models["data"]} == {
        "llm-model": 8192,
        "embedding-model": 8192,
        "rerank-model": 8192,
    }


def test_limits_are_by_key_and_no_limit_is_no_entry() -> None:
    keys = [{"name": "default"}, {"name": "slow", "key": "sk-slow-0123456789ab", "requests_per_minute": 6}]
    given = maps(guide(), keys=keys)
    assert given["rates.map"] == {"slow": "6"}
    assert given["concurrency.map"] == {"default": "64", "slow": "64"}


def test_no_map_has_a_blank_in_a_key_or_an_empty_value() -> None:
    for name, entries in maps(guide(), guide("gpu-2", "10.0.0.2")).items():
        for key, value in entries.items():
            assert not any(letter.isspace() for letter in key), name
            assert value.strip() == value != "", name
