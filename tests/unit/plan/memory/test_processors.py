"""The plan of servers on processors against what vLLM 0.32.0's build for processors reported on a lab host.

Measured: ``cache_config_info`` with 1 GiB of KV cache for each rank, and the proportional set size of all processes
after a request, of the encoder after its warm-up. The lab's model is that of the repository; the others have the
numbers of the published config.json and random weights, the encoder with texts of 512 tokens at most.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.unit.plan.memory.models import BGE_M3, GIB, MIB, QWEN_3B, RAM, server
from vllm_fleet.plan.memory.estimate import estimate
from vllm_fleet.plan.memory.kv_cache import kv_tokens, requests_at_full_length
from vllm_fleet.plan.models.facts import CacheLayers, ModelFacts, Weights
from vllm_fleet.plan.settings import Settings

LAB = Settings(backend="cpu", cpu_kvcache_gib=1)


def model(facts: ModelFacts, parameters: int, cache: tuple[CacheLayers, ...], **more: Any) -> ModelFacts:
    weights = Weights(2 * parameters, 0, 0, 0, 2)
    return replace(facts, parameters=parameters, weights=weights, cache_layers=cache, **more)


TINY = model(
    QWEN_3B, 1_606_000, (CacheLayers(2, 2, 128),), max_model_len=2048, layers=2, hidden_size=256, intermediate_size=512,
    attention_heads=4, head_size=64, vocabulary=1664,
)  # fmt: skip
QWEN = model(
    QWEN_3B, 494_032_768, (CacheLayers(24, 2, 128),), max_model_len=4096, layers=24, hidden_size=896,
    intermediate_size=4864, attention_heads=14, head_size=64,
)  # fmt: skip
GEMMA = model(
    QWEN_3B, 999_885_952, (CacheLayers(4, 1, 512), CacheLayers(22, 1, 512, 512)), max_model_len=8192, layers=26,
    hidden_size=1152, intermediate_size=6912, attention_heads=4, kv_heads=1, head_size=256, vocabulary=262144,
)  # fmt: skip
ENCODER = replace(BGE_M3, max_model_len=512)
MEASURED = [
    # Model, ranks; blocks, tokens, requests of full length, MiB of all processes.
    ("the lab's llm", TINY, 2, 16_384, 2_097_152, 1024.0, 3905),
    ("qwen2.5-0.5b", QWEN, 1, 682, 87_296, 21.3125, 3975),
    ("qwen2.5-0.5b on two", QWEN, 2, 1365, 174_720, 42.65625, 5764),
    ("gemma-3-1b", GEMMA, 1, 2048, 88_301, 10.778947368421052, 6016),
    ("bge-m3", ENCODER, 1, 0, 0, 0.0, 2467),
]


@pytest.mark.parametrize("measured", MEASURED, ids=[one[0] for one in MEASURED])
def test_blocks_tokens_and_requests_are_equal_to_what_was_reported(measured: tuple[Any, ...]) -> None:
    _, facts, ranks, blocks, tokens, requests, _ = measured
    demand = estimate(server(facts, tensor_parallel_size=ranks), facts, RAM, LAB)
    assert (GIB // demand.kv_block_bytes if demand.kv_block_bytes else 0) == blocks
    assert kv_tokens(demand, GIB) == tokens
    assert requests_at_full_length(demand, GIB) == requests


@pytest.mark.parametrize("measured", MEASURED, ids=[one[0] for one in MEASURED])
def test_the_processes_take_what_was_estimated_within_its_error(measured: tuple[Any, ...]) -> None:
    _, facts, ranks, blocks, _, _, mib = measured
    demand = estimate(server(facts, tensor_parallel_size=ranks), facts, RAM, LAB)
    estimated = ranks * (demand.fixed.bytes + (GIB if blocks else 0))
    assert abs(estimated - mib * MIB) <= ranks * demand.fixed.error
    assert estimated == pytest.approx(mib * MIB, rel=0.08)
