"""What vLLM sets by itself where a declaration says nothing."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.plan.memory.models import BGE_M3, GIB, H100, L40S, LLAMA_8B, QWEN_3B, RAM, server
from vllm_fleet.plan.host import Device
from vllm_fleet.plan.memory.limits import Limits
from vllm_fleet.plan.models.facts import ModelFacts
from vllm_fleet.plan.settings import Settings

A100 = Device(0, "NVIDIA A100-SXM4-80GB", 81920 << 20, (8, 0))
B200 = Device(0, "NVIDIA B200", 183359 << 20, (10, 0))


def limits(facts: ModelFacts, device: Device, **more: Any) -> Limits:
    backend = "cpu" if device is RAM else "cuda"
    return Limits.of(server(facts, **more), facts, device, Settings(backend=backend))


@pytest.mark.parametrize(
    ("device", "ranks", "tokens", "sequences"),
    [
        (L40S, 1, 2048, 256),
        (A100, 1, 2048, 256),
        (H100, 1, 8192, 1024),
        (H100, 8, 8192, 1024),
        (B200, 1, 16384, 1024),
        (RAM, 1, 2048, 128),
        (RAM, 2, 4096, 256),  # as the lab's llm logs it
    ],
)
def test_batch_and_sequences_follow_the_device(device: Device, ranks: int, tokens: int, sequences: int) -> None:
    found = limits(LLAMA_8B, device, tensor_parallel_size=ranks)
    assert (found.batched_tokens, found.sequences) == (tokens, sequences)


def test_an_encoder_takes_its_longest_text_in_one_batch() -> None:
    assert limits(BGE_M3, L40S).batched_tokens == 8192
    assert limits(BGE_M3, L40S, max_model_len=512).batched_tokens == 2048


@pytest.mark.parametrize("spelt", ["max-num-seqs", "max_num_seqs", "--max-num-seqs"])
def test_declared_limits_win_however_they_are_spelt(spelt: str) -> None:
    found = limits(QWEN_3B, H100, extra_args={spelt: 64, "max-num-batched-tokens": 4096})
    assert (found.batched_tokens, found.sequences, found.in_flight_tokens) == (4096, 64, 8192)


def test_a_batch_is_never_larger_than_all_sequences_at_full_length() -> None:
    assert limits(QWEN_3B, H100, max_model_len=100, extra_args={"max-num-seqs": 4}).batched_tokens == 400


@pytest.mark.parametrize(
    ("device", "flags", "sizes", "decoding", "largest"),
    [
        (H100, {}, 51, 51, 512),
        (L40S, {}, 51, 35, 512),
        (B200, {}, 83, 83, 1024),
        (H100, {"max-num-seqs": 4}, 4, 3, 8),
        (H100, {"enforce-eager": True}, 0, 0, 0),
        (RAM, {}, 0, 0, 0),
    ],
)
def test_graphs_are_captured_for_the_sizes_that_occur(
    device: Device, flags: dict[str, Any], sizes: int, decoding: int, largest: int
) -> None:
    found = limits(QWEN_3B, device, extra_args=flags)
    assert (len(found.captures), found.decode_sizes, max(found.captures, default=0)) == (sizes, decoding, largest)


def test_an_encoder_captures_no_graph_of_the_whole_model() -> None:
    assert limits(BGE_M3, H100).decode_sizes == 0


def test_memory_of_a_device_is_judged_in_full_gib() -> None:
    assert limits(QWEN_3B, Device(0, "X", 70 * GIB - 1)).batched_tokens == 2048
    assert limits(QWEN_3B, Device(0, "X", 70 * GIB)).batched_tokens == 8192
