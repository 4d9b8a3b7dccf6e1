"""The estimate against vLLM 0.32.0 on an H100 80GB HBM3, one server alone, float16, random weights, CUDA graphs.

Measured, in MiB; docs/measurements/plan.md says how. The driver keeps 480 MiB of the card for itself.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.unit.plan.memory.models import BGE_M3, H100, MIB, QWEN_3B, server
from vllm_fleet.plan.memory.demand import Demand
from vllm_fleet.plan.memory.estimate import estimate
from vllm_fleet.plan.memory.kv_cache import kv_tokens
from vllm_fleet.plan.settings import Settings

CARD = replace(H100, memory_bytes=(81559 - 480) * MIB)
FLAGS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "eager": {"enforce-eager": True},
    "64 sequences": {"max-num-seqs": 64},
}
# Weights; peak, state of the sampler and what else was consumed; graphs put aside; KV tokens; most under load of 0.3.
LLM = {
    "defaults": (5930.5, 680.0 + 648.8 + 358.7, 796, 452_528, 25_960),
    "eager": (5930.5, 644.0 + 648.8 + 340.7, 0, 476_704, 26_136),
    "64 sequences": (5930.5, 680.0 + 43.2 + 368.3, 176, 487_120, 25_056),
}
ENCODERS = 2594  # bge-m3 and bge-reranker-v2-m3, after start and under load
CONTEXT = 518


def demand(name: str) -> Demand:
    return estimate(server(QWEN_3B, extra_args=FLAGS[name]), QWEN_3B, CARD, Settings())


@pytest.mark.parametrize("name", LLM)
def test_each_part_is_within_its_error(name: str) -> None:
    weights, activations, graphs, _, _ = LLM[name]
    found = demand(name)
    for amount, measured in ((found.weights, weights), (found.activations, activations), (found.graphs, graphs)):
        assert abs(amount.bytes - measured * MIB) <= amount.error


@pytest.mark.parametrize("name", LLM)
def test_the_tokens_of_a_share_are_those_vllm_reports_within_a_hundredth(name: str) -> None:
    share = int(0.3 * CARD.memory_bytes)
    found = demand(name)
    assert kv_tokens(found, found.cache_bytes(share)) == pytest.approx(LLM[name][3], rel=0.01)


@pytest.mark.parametrize("name", LLM)
def test_what_the_card_is_occupied_with_under_load_is_foreseen(name: str) -> None:
    share = int(0.3 * CARD.memory_bytes)
    found = demand(name)
    assert found.occupied(share) / MIB == pytest.approx(LLM[name][4], rel=0.01)
    assert found.context.bytes > CONTEXT * MIB


def test_an_encoder_takes_what_it_takes_whatever_its_share() -> None:
    found = estimate(server(BGE_M3), BGE_M3, CARD, Settings())
    assert found.fixed.bytes / MIB == pytest.approx(ENCODERS, rel=0.02)
    assert found.fixed.bytes == found.occupied(int(0.15 * CARD.memory_bytes))
    assert abs(found.weights.bytes - 1083 * MIB) <= found.weights.error
