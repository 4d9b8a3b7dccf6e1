"""What the verification says of gateways that are not broken but not all alike, and of servers behind them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Lock
from time import sleep
from unittest.mock import patch

import pytest

from tests.broken_servers.broken import failed
from tests.broken_servers.stub import QUESTIONS
from tests.broken_servers.stub_gateway import KEY, TIMEOUT, certificate, passed_on, refusal, serving_gateway
from vllm_fleet.verify import hints, raw
from vllm_fleet.verify.client import Client
from vllm_fleet.verify.endpoint import GATEWAY, Endpoint
from vllm_fleet.verify.outcome import Status, Wrong
from vllm_fleet.verify.registry import registered
from vllm_fleet.verify.run import ServerResult, verify_server

SERVER = Endpoint(
    name="llm",
    host="gpu-1",
    unit="vllm-llm.service",
    kind="llm",
    base_url="https://gw:8443/servers/llm",
    model="m",
    dtype="float16",
    tensor_parallel_size=1,
    gateway="gw-1",
)


def not_run(result: ServerResult) -> dict[str, str]:
    return {one.check: one.reason for one in result.outcomes if one.status is Status.NOT_RUN}


def test_a_healthy_gateway_passes_every_check() -> None:
    with serving_gateway() as endpoint:
        result = verify_server(endpoint, QUESTIONS, TIMEOUT)
    assert failed(result) == {}
    assert not_run(result) == {}
    assert len(result.outcomes) == len(registered(GATEWAY, QUESTIONS))
    assert KEY not in repr(result)


def test_a_gateway_without_tls_is_reported_as_such_and_else_passes() -> None:
    with serving_gateway(encrypted=False) as endpoint:
        result = verify_server(endpoint, QUESTIONS, TIMEOUT)
    assert failed(result) == {}
    assert "gateway_plain_http is set" in not_run(result)["tls_only"]


def test_ports_that_are_open_to_their_own_host_prove_nothing() -> None:
    with serving_gateway(encrypted=False, ports_open=True) as endpoint:
        result = verify_server(endpoint, QUESTIONS, TIMEOUT, only=frozenset({"server_ports_shut"}))
    assert "open to this machine" in not_run(result)["server_ports_shut"]


def test_ports_that_are_open_to_a_gateway_s_host_prove_nothing() -> None:
    with (
        serving_gateway(encrypted=False, ports_open=True, gateway_addresses=("192.0.2.1", "192.0.2.2")) as endpoint,
        patch.object(raw, "is_own", lambda host: host == "192.0.2.2"),
    ):
        result = verify_server(endpoint, QUESTIONS, TIMEOUT, only=frozenset({"server_ports_shut"}))
    assert "open to this machine" in not_run(result)["server_ports_shut"]


def test_one_open_port_of_another_host_is_found_among_own_ones() -> None:
    with serving_gateway(encrypted=False, ports_open=True, gateway_addresses=()) as endpoint:
        first, *others = endpoint.instances
        ports = (replace(first, address="localhost"), *others)
        with patch.object(raw, "is_own", lambda host: host == "localhost"):
            result = verify_server(
                replace(endpoint, instances=ports), QUESTIONS, TIMEOUT, only=frozenset({"server_ports_shut"})
            )
    (finding,) = failed(result).values()
    assert "(coder on stub-host) takes connections" in finding
    assert "(llm on stub-host)" not in finding


def test_a_key_that_met_its_limit_is_told_from_an_open_door() -> None:
    limit = refusal(429, "rate_limit_exceeded", "The key default allows 60 requests per minute.")
    with serving_gateway(lambda asked, said: limit if asked.path == "/tokenize" else said, encrypted=False) as endpoint:
        result = verify_server(endpoint, QUESTIONS, TIMEOUT, only=frozenset({"operations_hidden"}))
    (finding,) = failed(result).values()
    assert "requests_per_minute" in finding


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (502, "no live server behind the gateway: `systemctl status vllm-llm.service` on gpu-1"),
        (503, "`journalctl -u vllm-gateway -n 50` on gw-1"),
        (504, "no live server behind the gateway"),
        (401, "not one of the gateway's"),
        (429, "requests_per_minute or concurrent_requests"),
        (500, "`journalctl -u vllm-llm.service -n 50` on gpu-1"),
    ],
)
def test_a_status_behind_a_gateway_is_explained_by_it(status: int, words: str) -> None:
    assert words in hints.of_status(SERVER, status)
    assert "gateway" not in hints.of_status(replace(SERVER, gateway=None), status)


def test_a_gateway_that_is_down_is_not_taken_for_its_server() -> None:
    with serving_gateway(encrypted=False) as endpoint:
        gone = endpoint.base_url
    client = Client(replace(SERVER, base_url=f"{gone}/servers/llm"))
    with pytest.raises(Wrong) as raised:
        client.get("/v1/models")
    assert "`systemctl status vllm-gateway.service` on gw-1" in raised.value.usually


def test_ca_file_is_trusted_before_what_the_environment_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", certificate("127.0.0.8"))
    with serving_gateway() as endpoint:
        client = Client(endpoint)
        assert client.get("/v1/models")["data"]
        assert client.raw("GET", "/v1/models").status == 200
        with pytest.raises(Wrong, match="no TLS connection"):
            Client(replace(endpoint, ca_file=None)).get("/v1/models")


def test_a_raw_request_is_sent_as_it_is_written() -> None:
    seen = []
    with serving_gateway(lambda asked, said: seen.append(asked) or passed_on({}), encrypted=False) as endpoint:
        client = Client(endpoint)
        for target in ("//v1/../rerank/;a=b%2F", f"{endpoint.base_url}/metrics"):
            client.raw("POST", target, {"a": 1}, {"Authorization": None})
    assert [one.target for one in seen] == ["//v1/../rerank/;a=b%2F", f"{endpoint.base_url}/metrics"]
    assert {one.authorization for one in seen} == {None}
    assert seen[0].body == {"a": 1}


def test_requests_at_once_to_servers_behind_one_gateway_take_turns() -> None:
    """A key's concurrent_requests is for what one knowledge base sends, not for all servers' loads together."""
    lock, now, most = Lock(), [0], [0]

    def count(asked, said):
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        sleep(0.05)
        with lock:
            now[0] -= 1
        return passed_on({"ok": True})

    with serving_gateway(count, encrypted=False) as endpoint:
        clients = [Client(replace(endpoint, name=str(number))) for number in range(3)]
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(lambda client: client.post_at_once("/v1/embeddings", [{}] * 8), clients))
    assert most[0] <= 8
