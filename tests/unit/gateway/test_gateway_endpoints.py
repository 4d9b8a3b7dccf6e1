"""By which way the verification reaches each server: straight, or through a gateway, with one of its keys."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from tests.unit.gateway import plans as gateway_plans
from tests.unit.gateway.plans import SETTINGS
from vllm_fleet.gateway.plan import Settings, make_gateway_plan
from vllm_fleet.plan.endpoints import endpoints, looked_at
from vllm_fleet.verify.endpoint import Endpoint, parse_endpoints

# What the verification is told beside what a gateway is.
ALSO = {"dtype": "float16", "tensor_parallel_size": 1, "max_model_len": None, "trust_remote_code": False}


def guide(host: str = "gpu-1", listens: str = "127.0.0.1") -> dict[str, Any]:
    """The plan of a host with the guide's three servers."""
    return {"servers": [{**one, **ALSO} for one in gateway_plans.guide(host, listens)["servers"]]}


HOSTS = [guide(), guide("gpu-2", "10.0.0.2")]
ALL = [{"name": "default"}]


def gateway(
    host: str = "gpu-1", plans: Sequence[Any] = HOSTS, keys: Any = ALL, settings: Settings = SETTINGS
) -> dict[str, Any]:
    """A gateway as it was looked at."""
    made = {key["name"]: [f"secret-of-{key['name']}", f"former-of-{key['name']}"] for key in keys}
    by_host = {plan["servers"][0]["host"]: plan for plan in plans}
    plan, secrets, problems = make_gateway_plan(host, by_host, keys, made, [], settings)
    assert plan is not None, problems
    return {"plan": plan.as_dict(), "keys": secrets, "ca_file": None}


def told(plans: Sequence[Any], *gateways: dict[str, Any]) -> dict[tuple[str, str], Endpoint]:
    """What the verification reads, by host and name."""
    text = json.dumps(endpoints(plans, "key-of-the-servers", gateways))
    return {(one.host, one.name): one for one in parse_endpoints(text, "test")}


def test_without_a_gateway_servers_are_asked_straight() -> None:
    server = told([guide()])["gpu-1", "llm"]
    assert (server.api_key, server.gateway, server.ca_file) == ("key-of-the-servers", None, None)
    assert server.base_url == guide()["servers"][0]["base_url"]


def test_a_server_is_asked_at_its_own_url_with_a_key_of_the_gateway() -> None:
    found = told([guide()], gateway(plans=[guide()]))
    server = found["gpu-1", "rerank"]
    assert server.base_url == "https://gw.example.com:8443/servers/rerank"
    assert (server.api_key, server.gateway) == ("secret-of-default", "gpu-1")
    assert len(found) == 4


def test_of_replicas_each_is_asked_by_itself() -> None:
    found = told(HOSTS, gateway())
    urls = [found[host, "llm"].base_url.rpartition("/")[2] for host in ("gpu-1", "gpu-2")]
    assert urls == ["llm@gpu-1", "llm@gpu-2"]


def test_of_several_gateways_a_server_is_asked_through_that_of_its_own_host() -> None:
    plans = [guide("gpu-1", "10.0.0.1"), guide("gpu-2", "10.0.0.2")]
    gateways = [
        gateway(host, plans, settings=Settings(address, 8443, "own_ca"))
        for host, address in (("gw-9", "10.0.0.9"), ("gpu-1", "10.0.0.1"), ("gpu-2", "10.0.0.2"))
    ]
    found = told(plans, *gateways)
    assert [found[host, "llm"].gateway for host in ("gpu-1", "gpu-2")] == ["gpu-1", "gpu-2"]
    assert [found[host, "llm"].address[0] for host in ("gpu-1", "gpu-2")] == ["10.0.0.1", "10.0.0.2"]
    assert found["gw-9", "gateway"].gateway_addresses == ("10.0.0.9", "10.0.0.1", "10.0.0.2")


def test_a_gateway_is_told_what_is_behind_it_and_which_ports_must_be_shut() -> None:
    asked = told(HOSTS, gateway())["gpu-1", "gateway"]
    assert (asked.kind, asked.unit, asked.base_url) == (
        "gateway",
        "vllm-gateway.service",
        "https://gw.example.com:8443",
    )
    assert [(one.kind, one.path) for one in asked.served] == [
        ("llm", "/servers/llm"),
        ("embedding", "/servers/embedding"),
        ("rerank", "/servers/rerank"),
    ]
    # On its own host the server listens on loopback, and nobody must get in where the host is known.
    doors = [(one.host, one.address, one.port) for one in asked.instances if one.server == "llm"]
    assert doors == [("gpu-1", "gw.example.com", 32804), ("gpu-2", "10.0.0.2", 32804)]


def test_a_key_for_all_servers_is_taken_and_rather_one_without_a_limit_per_minute() -> None:
    keys = [
        {"name": "search", "servers": ["rerank"]},
        {"name": "slow", "requests_per_minute": 60},
        {"name": "any"},
    ]
    found = told([guide()], gateway(plans=[guide()], keys=keys))
    assert {one.api_key for one in found.values()} == {"secret-of-any"}


def test_without_a_key_for_all_servers_each_is_asked_with_one_that_may_use_it() -> None:
    keys = [{"name": "search", "servers": ["rerank", "embedding"]}, {"name": "chat", "servers": ["llm"]}]
    found = told([guide()], gateway(plans=[guide()], keys=keys))
    assert found["gpu-1", "llm"].api_key == "secret-of-chat"
    assert found["gpu-1", "rerank"].api_key == "secret-of-search"
    asked = found["gpu-1", "gateway"]
    assert asked.api_key == "secret-of-search"
    assert [one.name for one in asked.served] == ["embedding", "rerank"]
    assert {one.server for one in asked.instances} == {"llm", "embedding", "rerank"}


def test_gateways_that_were_not_looked_at_are_left_out() -> None:
    known = gateway()
    facts = {"gateway_plan": known["plan"], "gateway_secrets": {"keys": known["keys"], "ca_file": "/ca.pem"}}
    found = looked_at(["gpu-1", "gpu-2"], {"gpu-1": facts, "gpu-2": {}})
    assert found == [{**known, "ca_file": "/ca.pem"}]
