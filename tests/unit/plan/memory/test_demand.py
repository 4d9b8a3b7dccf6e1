"""What a server takes beside weights and KV cache, and what a share has to pay for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.plan.memory.models import BGE_M3, GIB, H100, L40S, LLAMA_8B, LLAMA_70B, MIB, QWEN_3B, RAM, server
from vllm_fleet.plan.host import Device
from vllm_fleet.plan.memory.demand import Amount, Demand
from vllm_fleet.plan.memory.estimate import estimate
from vllm_fleet.plan.models.facts import ModelFacts
from vllm_fleet.plan.settings import Settings


def demand(facts: ModelFacts, device: Device = H100, **more: Any) -> Demand:
    return estimate(server(facts, **more), facts, device, Settings(backend="cpu" if device is RAM else "cuda"))


def flags(**given: Any) -> dict[str, Any]:
    return {name.replace("_", "-"): value for name, value in given.items()}


def test_amounts_add_up_with_their_errors() -> None:
    assert Amount(5, 1) + Amount(7, 2) == Amount(12, 3)
    assert Amount(5, 1).most == 6


def test_a_share_pays_for_all_but_the_context() -> None:
    found = demand(QWEN_3B)
    assert found.fixed == found.counted + found.context
    assert found.least == found.counted.most + found.kv_least
    assert found.cache_bytes(found.counted.bytes + GIB) == GIB
    assert found.cache_bytes(0) == 0
    assert found.occupied(40 * GIB) == found.free_to_start(40 * GIB) == 40 * GIB + found.context.bytes


def test_an_encoder_never_fills_its_share_so_that_pays_for_the_context_as_well() -> None:
    found = demand(BGE_M3)
    assert found.kv_least == found.kv_bytes_per_token == found.cache_bytes(40 * GIB) == 0
    assert found.least == found.fixed.most
    assert found.occupied(40 * GIB) == found.fixed.bytes
    assert found.free_to_start(40 * GIB) == 40 * GIB + found.context.bytes  # vLLM asks for it all the same


def test_counts_of_the_whole_vocabulary_are_kept_for_every_sequence() -> None:
    """Penalties of 1,024 sequences in a vocabulary of 151,936: 594 MiB, and 19 MiB for the prompts."""
    few, many = (demand(QWEN_3B, extra_args=flags(max_num_seqs=n, max_num_batched_tokens=8192)) for n in (64, 1024))
    per_sequence = (many.activations.bytes - few.activations.bytes) / (1024 - 64)
    assert per_sequence == pytest.approx(4 * (151936 + 4748 + 3200 + 2 * 2048), rel=0.001)


@given(
    facts=st.sampled_from([QWEN_3B, LLAMA_8B, LLAMA_70B, BGE_M3]),
    device=st.sampled_from([H100, L40S, RAM]),
    tokens=st.integers(512, 32768),
    sequences=st.integers(1, 1024),
    length=st.integers(16, 8192),
)
def test_more_tokens_sequences_or_length_never_take_less(
    facts: ModelFacts, device: Device, tokens: int, sequences: int, length: int
) -> None:
    def least(**more: int) -> int:
        declared = {"tokens": tokens, "sequences": sequences, "length": length} | more
        extra = flags(max_num_seqs=declared["sequences"], max_num_batched_tokens=declared["tokens"])
        return demand(facts, device, max_model_len=declared["length"], extra_args=extra).least

    assert least(tokens=2 * tokens) >= least()
    assert least(sequences=2 * sequences) >= least()
    assert least(length=2 * length) >= least()


@given(facts=st.sampled_from([QWEN_3B, LLAMA_8B, LLAMA_70B]), device=st.sampled_from([H100, L40S, RAM]))
def test_more_ranks_never_take_more_of_each_beside_what_they_talk_through(facts: ModelFacts, device: Device) -> None:
    # On processors the ranks decide the batch as well; it is held fast.
    extra = flags(max_num_seqs=64, max_num_batched_tokens=2048)
    least = [
        demand(facts, device, tensor_parallel_size=ranks, extra_args=extra).counted.bytes for ranks in (1, 2, 4, 8)
    ]
    assert least == sorted(least, reverse=True)


def test_eager_servers_have_no_graphs() -> None:
    assert demand(QWEN_3B, extra_args=flags(enforce_eager=True)).graphs == Amount(0)
    assert demand(QWEN_3B, RAM).graphs == Amount(0)
    assert demand(QWEN_3B).graphs.bytes > demand(BGE_M3).graphs.bytes > 0


def test_experts_need_workspace_for_each_one_that_a_token_goes_to() -> None:
    """Qwen3-30B-A3B: 8 of 128 experts, 768 wide each, for 8,192 tokens in 16 bits."""
    facts = replace(QWEN_3B, experts=128, experts_per_token=8, expert_size=768)
    dense = demand(replace(facts, experts=None, intermediate_size=1)).activations.bytes
    assert demand(facts).activations.bytes - dense >= 8 * 8192 * 2 * (2048 + 2048) - 300 * MIB


def test_the_context_of_a_group_is_larger_than_that_of_one() -> None:
    assert demand(QWEN_3B, tensor_parallel_size=2).context.bytes > demand(QWEN_3B).context.bytes


def test_on_processors_ranks_share_what_the_server_has_once() -> None:
    one, two = demand(QWEN_3B, RAM), demand(QWEN_3B, RAM, tensor_parallel_size=2)
    assert one.context.bytes < 2 * two.context.bytes < 2 * one.context.bytes
