"""Answers come through as the server gives them, however long they take, and what is too much is refused in words."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.integration.conftest import wait_until
from tests.integration.gateway.lab_gateway import CHAT, LabGateway, chat, result
from vllm_fleet.gateway.maps import fingerprint

pytestmark = [pytest.mark.integration, pytest.mark.serving]

MAPS = "/etc/vllm-gateway/maps"
# Longer than the time-outs that cut answers elsewhere (30, 50, 60 s), and than the gateway's own for a slow client.
SILENCE_SECONDS = 66
STAND_IN_PORT = 39999
# Shorter and longer than the gateway and vLLM keep an unused connection: some meet its end, if any can.
PAUSES = [*range(1, 21), *range(23, 65, 3), *(65 + 3 * number / 4 for number in range(20))]


@pytest.fixture(scope="module", autouse=True)
def patient(gateway: LabGateway) -> Iterator[dict[str, subprocess.Popen[str]]]:
    """Clients that wait for more than a minute, beside the other tests, which come first.

    The real servers are quick: a stand-in on the gateway's host is silent in their place, before its answer or within.
    """
    name, door = gateway.host.name, gateway.door()
    with ExitStack() as stack:
        stand_in = stack.enter_context(
            gateway.running("silent_server", gateway.host, door=door, port=STAND_IN_PORT, seconds=SILENCE_SECONDS)
        )
        assert stand_in.stdout is not None
        assert stand_in.stdout.readline() == "listening\n"
        port = gateway.server("embedding")["instances"][0]["port"]
        gateway.ask_socket(f"set server server_embedding/{name} addr 127.0.0.1 port {STAND_IN_PORT}")
        asked = {"door": door, "path": "/v1/embeddings", "at_once": 1}
        started = {
            "whole": stack.enter_context(gateway.running("stream", body={"input": "a"}, **asked)),
            "streamed": stack.enter_context(gateway.running("stream", body={"stream": True}, **asked)),
            "paused": stack.enter_context(
                gateway.running(
                    "load",
                    door=door,
                    path="/servers/rerank/v1/models",
                    at_once=len(PAUSES),
                    count=2,
                    pause=PAUSES,
                )
            ),
        }
        wait_until(lambda: gateway.stat("embedding")["scur"] == "2", 20)
        gateway.ask_socket(f"set server server_embedding/{name} addr 127.0.0.1 port {port}")
        yield started


def unused(gateway: LabGateway) -> int:
    """Return how many connections to the language model are kept for later requests."""
    found = gateway.stat("llm")
    return int(found["idle_conn_cur"]) + int(found["safe_conn_cur"])


def test_a_stream_comes_piece_by_piece(gateway: LabGateway) -> None:
    (one,) = gateway.tool("stream", path=CHAT, body=chat(1900), at_once=1)
    assert (one["status"], one["whole"]) == (200, True)
    assert one["body"].rstrip().endswith("data: [DONE]")
    assert one["body"].count('"content":') >= 1500
    # Held back, it would come in some 30 records of TLS, of 16 KiB each. How they are spread over time depends on the
    # client's share of the processors, too.
    assert len(one["at"]) > 300


def test_a_long_answer_comes_whole(gateway: LabGateway) -> None:
    (whole,) = gateway.tool("stream", path=CHAT, body=chat(1900, stream=False), at_once=1)
    answer = json.loads(whole["body"])
    assert answer["usage"]["completion_tokens"] == 1900
    assert answer["choices"][0]["finish_reason"] == "length"


def test_a_large_body_with_the_model_at_its_end_is_answered(gateway: LabGateway) -> None:
    # vLLM has no use for the first field.
    body = {"note": "x" * (33 << 20), "query": "a", "documents": ["b"], "model": "tiny-reranker"}
    for path in ("/v1/rerank", "/servers/rerank/v1/rerank"):
        found = gateway.tool("load", path=path, body=body, at_once=1, count=1)
        assert (found["statuses"], found["failures"]) == ({"200": 1}, []), found


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "not streamed"])
def test_a_client_that_goes_away_ends_its_request_at_the_server(gateway: LabGateway, stream: bool) -> None:
    # One stream: of several vLLM's engine is done long before its API server has sent them, and heard of the hang-up.
    at_once, leaving = (1, {"hang_up": 0.2}) if stream else (16, {"wait": 1})
    every = []
    # With client and server on the same processors it may be done all the same; one that ends early shows that it can.
    while len(every) < 6:
        before = gateway.metric("llm", "vllm:generation_tokens_total")
        gateway.tool("stream", path=CHAT, body=chat(1900, stream), at_once=at_once, **leaving)
        wait_until(lambda: gateway.metric("llm", "vllm:num_requests_running") == 0, 10)
        every.append(gateway.metric("llm", "vllm:generation_tokens_total") - before)
        if 0 < every[-1] < at_once * 1900:
            return
    pytest.fail(f"generated in full though nobody listened: {every}")


@pytest.fixture(scope="module")
def flooded(gateway: LabGateway) -> dict[str, Any]:
    """More answers at a time than the key allows: what became of them, and what the gateway thinks of the server."""
    allowed = next(key for key in gateway.plan["keys"] if key["name"] == "default")["concurrent_requests"]
    before = gateway.stat("llm")
    answers = gateway.tool("stream", path=CHAT, body=chat(250), at_once=allowed + 16)
    return {"answers": answers, "before": before, "after": gateway.stat("llm")}


ALLOWED = 3


@pytest.fixture
def narrow(gateway: LabGateway) -> Iterator[str]:
    """A key with few requests at a time, for as long as a test: written into the maps of the gateway as it runs."""
    secret = "sk-narrow-for-a-test"
    entries = {
        "keys": {fingerprint(secret): "narrow"},
        "concurrency": {"narrow": str(ALLOWED)},
        "only_servers": {"narrow.llm": "llm"},
        "access": {"narrow.llm": "yes"},
        "models": {"narrow": "{}"},
    }
    lines = [(f"{MAPS}/{name}.map", *entry) for name, some in entries.items() for entry in some.items()]
    for words in lines:
        gateway.ask_socket(" ".join(("add map", *words)))
    yield secret
    for path, entry, _ in lines:
        gateway.ask_socket(f"del map {path} {entry}")


def test_more_at_a_time_than_a_key_allows_is_told_to_come_again(gateway: LabGateway, narrow: str) -> None:
    door = gateway.door(narrow)
    with gateway.holding(ALLOWED, door) as whole:
        found = gateway.tool("load", door=door, path="/v1/models", at_once=1, count=1)
    assert found["statuses"] == {"429": 1}
    assert (found["codes"], found["unshaped"]) == ({"concurrency_limit_exceeded": 1}, 0)
    assert all(int(seconds) >= 1 for seconds in found["retry_after"])
    assert whole == [True] * ALLOWED


def test_a_server_with_all_it_can_do_is_not_taken_for_a_dead_one(flooded: dict[str, Any]) -> None:
    for column in ("status", "chkfail", "chkdown"):
        assert flooded["after"][column] == flooded["before"][column]
    assert flooded["after"]["status"] == "UP"


def test_forty_texts_at_once_meet_no_limit(gateway: LabGateway) -> None:
    body = {"model": "tiny-embedding", "input": ["One text at a time, as Dify does."]}
    found = gateway.tool("load", path="/v1/embeddings", body=body, at_once=40, seconds=10)
    assert found["failures"] == []
    assert set(found["statuses"]) == {"200"}
    assert found["statuses"]["200"] > 200


def test_a_server_that_is_down_is_said_to_be_and_comes_back(gateway: LabGateway) -> None:
    # Not the reranker, which the patient clients ask; those at the stand-in in this one's place are not disturbed.
    question = {"model": "tiny-embedding", "input": "a"}
    gateway.host.read("systemctl", "stop", "vllm-embedding.service")
    try:
        # Until the checks have noticed, the gateway tries three times; an answer after `wait` is a failure.
        first = gateway.tool("load", path="/v1/embeddings", body=question, at_once=4, count=1, wait=10)
        wait_until(lambda: gateway.stat("embedding")["status"] == "DOWN", 15)
        found = gateway.tool("load", path="/v1/embeddings", body=question, at_once=4, seconds=8, pause=0.2)
    finally:
        gateway.host.read("systemctl", "start", "--no-block", "vllm-embedding.service")
    for one in (first, found):
        assert one["failures"] == []
        assert set(one["statuses"]) == {"503"}
        assert (set(one["codes"]), one["unshaped"]) == ({"no_server"}, 0)
        assert all(int(seconds) >= 1 for seconds in one["retry_after"])
    # Not a hang: each of four had some dozen answers in 8 s.
    assert found["statuses"]["503"] > 40
    wait_until(lambda: gateway.host.active(["vllm-embedding.service"]) != [], 120)
    wait_until(lambda: gateway.stat("embedding")["status"] == "UP", 15)
    back = gateway.tool("load", path="/v1/embeddings", body=question, at_once=1, count=5)
    assert back["statuses"] == {"200": 5}


def test_unused_connections_to_a_server_are_given_up_before_it_closes_them(gateway: LabGateway) -> None:
    config = gateway.host.read("systemctl", "show", "--property=Environment", "vllm-embedding.service")
    kept = re.search(r"VLLM_HTTP_TIMEOUT_KEEP_ALIVE=(\d+)", config)
    assert kept is not None
    # In use all at once, however quick the server and however slow the client.
    with gateway.holding(6) as whole:
        pass
    assert whole == [True] * 6
    assert unused(gateway) >= 3
    wait_until(lambda: unused(gateway) <= 1, int(kept[1]) * 0.8)


def test_time_limits_fit_an_answer_of_ten_minutes(gateway: LabGateway) -> None:
    config = gateway.host.read("cat", "/etc/vllm-gateway/haproxy.cfg")
    limits = dict(re.findall(r"^ *(timeout server|hard-stop-after) (\d+)s$", config, re.MULTILINE))
    assert int(limits["timeout server"]) >= 600
    assert int(limits["hard-stop-after"]) >= int(limits["timeout server"])


def test_no_request_after_a_pause_meets_a_closing_connection(patient: dict[str, subprocess.Popen[str]]) -> None:
    found = result(patient["paused"])
    assert found["failures"] == []
    # 429 is what the flood beside them leaves to their key.
    assert set(found["statuses"]) <= {"200", "429"}
    assert found["statuses"]["200"] > len(PAUSES)


def test_an_answer_after_more_than_a_minute_comes(patient: dict[str, subprocess.Popen[str]]) -> None:
    (one,) = result(patient["whole"])
    assert (one["status"], one["body"]) == (200, '{"late": true}')
    assert one["at"][0] > SILENCE_SECONDS


def test_a_stream_may_be_silent_for_more_than_a_minute(patient: dict[str, subprocess.Popen[str]]) -> None:
    (one,) = result(patient["streamed"])
    assert (one["status"], one["body"]) == (200, "data: first\n\ndata: last\n\n")
    assert one["at"][-1] > SILENCE_SECONDS
