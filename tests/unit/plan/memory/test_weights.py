"""Weights on a card: what is on disk, in the server's dtype, divided by the ranks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.plan.memory.models import BGE_M3, GIB, H100, LLAMA_8B, LLAMA_70B, MIB, QWEN_3B, server
from vllm_fleet.plan.memory.estimate import estimate
from vllm_fleet.plan.models.facts import ModelFacts, Weights
from vllm_fleet.plan.settings import Settings


def weights(facts: ModelFacts, **more: Any) -> Any:
    return estimate(server(facts, **more), facts, H100, Settings()).weights


@pytest.mark.parametrize(
    ("facts", "ranks", "gib"),
    [
        (QWEN_3B, 1, 5.75),  # 3.09 billion parameters of 2 bytes
        (LLAMA_8B, 1, 14.96),
        (LLAMA_70B, 1, 131.42),
        (LLAMA_70B, 4, 32.85),
        (BGE_M3, 1, 1.06),  # 2.27 GB in float32 on disk
    ],
)
def test_weights_are_the_published_parameters_in_the_servers_dtype(facts: ModelFacts, ranks: int, gib: float) -> None:
    beside = weights(facts, tensor_parallel_size=ranks).bytes / GIB - gib
    assert 0 <= beside < 0.08  # buffers, the rotary tables of 131,072 positions among them


def test_float32_takes_twice_as_much_and_auto_means_16_bits() -> None:
    assert weights(BGE_M3, dtype="float32").bytes == pytest.approx(2 * weights(BGE_M3).bytes, rel=0.03)
    assert weights(BGE_M3, dtype="auto") == weights(BGE_M3, dtype="float16")


def test_quantized_weights_stay_as_they_are() -> None:
    awq = replace(LLAMA_8B, quantization="awq", weights=Weights(5 * GIB, GIB // 2, 0, 4 * GIB, 2))
    assert weights(awq).bytes == pytest.approx(5.5 * GIB, rel=0.02)
    assert weights(awq, dtype="float32").bytes == pytest.approx((4 + 2 * 1.5) * GIB, rel=0.02)


def test_a_model_quantized_while_it_loads_keeps_its_embeddings() -> None:
    embeddings = 2 * 128256 * 4096 * 2
    linear = LLAMA_8B.weights.total - embeddings
    assert weights(LLAMA_8B, quantization="fp8").bytes == pytest.approx(embeddings + linear / 2, rel=0.01)


@given(ranks=st.sampled_from([1, 2, 4, 8, 16, 32, 64]))
def test_ranks_hold_everything_together_and_copies_of_kv_projections(ranks: int) -> None:
    """With more ranks than the 8 KV heads every further rank repeats projections."""
    shared = LLAMA_70B.weights.kv_projections
    expected = LLAMA_70B.weights.total + max(ranks / 8 - 1, 0) * shared
    beside = weights(LLAMA_70B, tensor_parallel_size=ranks).bytes - expected / ranks
    assert 0 <= beside < 100 * MIB  # buffers of each rank


def test_pipeline_stages_share_the_layers() -> None:
    whole, half = weights(LLAMA_70B), weights(LLAMA_70B, extra_args={"pipeline-parallel-size": 2})
    assert whole.bytes / 2 < half.bytes < whole.bytes * 0.52
