"""What a gateway serves, and what it refuses to serve."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.gateway.plans import KEYS, SECRETS, SETTINGS, guide, server
from vllm_fleet.gateway.maps import fingerprint
from vllm_fleet.gateway.plan import Settings, elsewhere, make_gateway_plan
from vllm_fleet.gateway.result import GatewayPlan


def planned(*hosts: dict[str, Any], keys: object = None, settings: Settings = SETTINGS) -> GatewayPlan:
    plans = {each["servers"][0]["host"]: each for each in hosts}
    plan, _, problems = make_gateway_plan("gpu-1", plans, keys or KEYS, SECRETS, [], settings)
    assert problems == ()
    assert plan is not None
    return plan


def refused(*hosts: dict[str, Any], keys: object = None) -> str:
    plans = {each["servers"][0]["host"]: each for each in hosts}
    plan, secrets, problems = make_gateway_plan("gpu-1", plans, keys or KEYS, SECRETS, [], SETTINGS)
    assert plan is None
    assert secrets == {}
    return "\n".join(map(str, problems))


def test_one_base_url_and_one_for_each_server() -> None:
    plan = planned(guide())
    assert plan.base_url == "https://gw.example.com:8443"
    assert [one.url for one in plan.servers] == [
        f"https://gw.example.com:8443/servers/{name}" for name in ("llm", "embedding", "rerank")
    ]
    assert [one.instances[0].url for one in plan.servers] == [one.url for one in plan.servers]


def test_without_tls_the_url_says_so() -> None:
    assert planned(guide(), settings=Settings("10.0.0.9", 80, "none")).base_url == "http://10.0.0.9:80"


def test_an_ipv6_address_stands_in_brackets() -> None:
    assert planned(guide(), settings=Settings("fd00::9", 8443, "own_ca")).base_url == "https://[fd00::9]:8443"


def test_its_own_host_is_reached_by_loopback_and_others_by_their_address() -> None:
    plan = planned(guide(), guide("gpu-2", "10.0.0.2"))
    assert [one.address for one in plan.servers[0].instances] == ["127.0.0.1", "10.0.0.2"]


def test_servers_of_one_name_are_replicas_with_urls_of_their_own() -> None:
    llm = planned(guide(), guide("gpu-2", "10.0.0.2")).servers[0]
    assert llm.url.endswith("/servers/llm")
    assert [one.url.rpartition("/")[2] for one in llm.instances] == ["llm@gpu-1", "llm@gpu-2"]


def test_replicas_promise_the_length_that_all_of_them_take() -> None:
    plans = [guide(), guide("gpu-2", "10.0.0.2")]
    plans[1]["servers"][0]["context_length"] = 4096
    assert planned(*plans).servers[0].context_length == 4096
    plans[1]["servers"][0]["context_length"] = None
    assert planned(*plans).servers[0].context_length is None


def test_a_server_that_listens_on_another_host_s_loopback_is_refused_with_what_to_set() -> None:
    said = refused(guide(), guide("gpu-2"))
    assert "server llm of gpu-2 listens on loopback there" in said
    assert "Set model_server_bind_address of gpu-2" in said


def test_a_server_that_listens_everywhere_is_reached_by_its_host_s_address() -> None:
    other = guide("gpu-2")
    for one in other["servers"]:
        one["base_url"] = f"http://10.0.0.2:{one['port']}"
    assert planned(guide(), other).servers[0].instances[1].address == "10.0.0.2"


def test_a_host_without_a_plan_is_not_forgotten() -> None:
    _, _, problems = make_gateway_plan("gpu-1", {"gpu-1": guide(), "gpu-2": {}}, KEYS, SECRETS, [], SETTINGS)
    assert "no plan of gpu-2, whose servers it would forget" in str(problems[0])


@pytest.mark.parametrize("key", ["kind", "served_model_name"])
def test_replicas_that_differ_are_refused(key: str) -> None:
    other = guide("gpu-2", "10.0.0.2")
    other["servers"][0][key] = {"kind": "embedding", "served_model_name": "other"}[key]
    assert f"server llm has {key}" in refused(guide(), other)


def test_two_servers_of_one_kind_under_one_model_name_are_refused() -> None:
    plan = {"servers": [server("a", "llm", 1, served_model_name="m"), server("b", "llm", 2, served_model_name="m")]}
    assert "servers a and b serve llm models of one name, m" in refused(plan)


def test_one_model_name_for_two_kinds_is_no_problem() -> None:
    plan = {
        "servers": [server("a", "llm", 1, served_model_name="m"), server("b", "embedding", 2, served_model_name="m")]
    }
    assert planned(plan).maps["servers_of_models.map"] == {"llm.m": "a", "embedding.m": "b"}


@pytest.mark.parametrize("name", ["two words", 'a"b', "a'b", "a\\b", "模型"])
def test_a_model_name_that_cannot_stand_in_a_map_is_refused(name: str) -> None:
    assert "has a blank, a quote, a backslash" in refused({"servers": [server("a", "llm", 1, served_model_name=name)]})


def test_what_another_controller_made_is_not_replaced() -> None:
    plan, _, problems = make_gateway_plan("gpu-1", {"gpu-1": guide()}, KEYS, {}, elsewhere(["default"], True), SETTINGS)
    assert plan is None
    assert "the key default and the certificate's authority in use here came from another controller" in str(
        problems[0]
    )


def test_no_secret_stands_in_a_plan() -> None:
    keys = [{"name": "mine", "key": "sk-declared-0123456789"}, {"name": "default"}]
    plan = planned(guide(), keys=keys)
    text = str(plan.as_dict())
    assert "sk-" not in text
    assert plan.maps["keys.map"] == {
        fingerprint("sk-declared-0123456789"): "mine",
        fingerprint("sk-made-once-0123456789"): "default",
    }


def test_all_secrets_of_a_key_are_accepted_while_it_is_rotated() -> None:
    keys = [{"name": "mine", "key": ["sk-new-0123456789abc", "sk-old-0123456789abc"]}]
    assert set(planned(guide(), keys=keys).maps["keys.map"].values()) == {"mine"}
    assert len(planned(guide(), keys=keys).maps["keys.map"]) == 2
