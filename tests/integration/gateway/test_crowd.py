"""Connections that say nothing, or hardly anything, do not keep others from being answered."""

from __future__ import annotations

import json
import re
from statistics import median
from typing import Any

import pytest

from tests.integration.gateway.lab_gateway import CHAT, LabGateway, chat, result

pytestmark = [pytest.mark.integration, pytest.mark.serving]

QUESTION = {"model": "tiny-reranker", "query": "capital", "documents": ["Paris"]}
RIGHT = "right"
# Beyond what HAProxy looks at of a body, so that it goes on to the server as it comes.
LONG_BODY_BYTES = 60 << 20


def latency(gateway: LabGateway) -> float:
    """Return the median of milliseconds that others wait for an answer, handshake included; all are answered."""
    found = gateway.tool("load", path="/rerank", body=QUESTION, at_once=1, seconds=4, pause=0.02, kept=False, wait=10)
    assert found["failures"] == []
    assert set(found["statuses"]) == {"200"}
    return float(median(found["milliseconds"]))


@pytest.mark.parametrize(
    ("kind", "connections", "more"),
    [
        ("idle", 1000, {}),
        ("handshake", 1000, {}),
        ("headers", 200, {}),
        ("body", 200, {"authorization": "Authorization: Bearer sk-wrong\r\n"}),
        ("body", 200, {"authorization": "", "length": LONG_BODY_BYTES}),
        # The key that occupies a server so is known; its own limit bounds it.
        ("body", 50, {"authorization": RIGHT, "length": LONG_BODY_BYTES}),
        ("reader", 50, {"path": CHAT}),
    ],
    ids=[
        "idle",
        "no handshake",
        "slow headers",
        "slow bodies, wrong key",
        "slow bodies, no key",
        "slow bodies, right key",
        "slow readers",
    ],
)
def test_others_are_served(gateway: LabGateway, kind: str, connections: int, more: dict[str, Any]) -> None:
    if more.get("authorization") == RIGHT:
        more = {**more, "authorization": f"Authorization: Bearer {gateway.key}\r\n"}
    if kind == "reader":
        more = {**more, "body": json.dumps(chat(500))}
    alone = latency(gateway)
    with gateway.running("slow", door=gateway.door(), kind=kind, connections=connections, **more) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        beside = latency(gateway)
        assert process.stdin is not None
        process.stdin.write("over\n")
        process.stdin.flush()
        found = result(process)
    assert found["opened"] == connections
    assert beside < 2 * alone + 50, f"{beside:.1f} ms instead of {alone:.1f} ms; {found}"


def test_a_connection_that_says_nothing_is_ended_in_a_while(gateway: LabGateway) -> None:
    config = gateway.host.read("cat", "/etc/vllm-gateway/haproxy.cfg")
    limits = dict(re.findall(r"^ *timeout (http-request|client|http-keep-alive) (\d+)s$", config, re.MULTILINE))
    assert int(limits["http-request"]) <= 30
    assert int(limits["client"]) <= 60
    assert int(limits["http-keep-alive"]) <= 120
