"""The KV cache that a plan counts with is the one vLLM 0.32.0 makes.

The expected numbers are answers of vLLM's own get_kv_cache_groups, _max_memory_usage_bytes_from_groups and
get_kv_cache_capacity, asked with the layers of each case, not values worked out by hand.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.plan.memory.models import GIB, H100, LLAMA_8B, server
from vllm_fleet.plan.memory.estimate import estimate
from vllm_fleet.plan.memory.kv_cache import kv_tokens, requests_at_full_length
from vllm_fleet.plan.models.facts import CacheLayers
from vllm_fleet.plan.settings import Settings

QWEN = CacheLayers(36, 2, 256)
LLAMA = CacheLayers(32, 8, 256)
LLAMA_70B = CacheLayers(80, 8, 256)
GEMMA_12B = (CacheLayers(8, 8, 512), CacheLayers(40, 8, 512, 1024))
GEMMA_27B = (CacheLayers(10, 16, 256), CacheLayers(52, 16, 256, 1024))
GPT_OSS = (CacheLayers(12, 8, 128), CacheLayers(12, 8, 128, 128))
MISTRAL = CacheLayers(32, 8, 256, 4096)
DEEPSEEK = CacheLayers(61, 0, 576)
TWO_PAGES = (CacheLayers(24, 2, 512), CacheLayers(8, 8, 256, 512))
FP8 = {"kv-cache-dtype": "fp8"}


# Name, layers, tokens of a request, ranks, flags, GiB; bytes of a block, least bytes, tokens, requests of full length.
CASES = [
    ("qwen2.5-3b", (QWEN,), 32768, 1, {}, 20, 589_824, 1_208_549_376, 582_528, 17.77734375),
    ("qwen2.5-3b on two", (QWEN,), 32768, 2, {}, 20, 294_912, 604_274_688, 1_165_072, 35.55517578125),
    ("qwen2.5-3b, odd length", (QWEN,), 1001, 1, {}, 20, 589_824, 37_748_736, 578_482, 577.9047619047619),
    ("llama-3.1-70b on four", (LLAMA_70B,), 131072, 4, {}, 5, 1_310_720, 10_738_728_960, 65_536, 0.5),
    ("llama-3.1-8b", (LLAMA,), 131072, 1, {}, 20, 2_097_152, 17_181_966_336, 163_840, 1.25),
    ("llama-3.1-8b, fp8", (LLAMA,), 131072, 1, FP8, 20, 1_048_576, 8_590_983_168, 327_680, 2.5),
    ("gemma-3-12b", GEMMA_12B, 131072, 1, {}, 20, 1_048_576, 14_300_479_488, 196_843, 1.5017965828261348),
    ("gemma-3-27b", GEMMA_27B, 131072, 1, {}, 20, 1_310_720, 19_302_973_440, 145_829, 1.112589976911585),
    ("gpt-oss-20b", GPT_OSS, 131072, 1, {}, 20, 393_216, 3_627_810_816, 775_960, 5.920108401084011),
    ("gpt-oss-20b, short", GPT_OSS, 1000, 1, {}, 20, 393_216, 50_331_648, 430_023, 430.0236220472441),
    ("mistral-7b-v0.1", (MISTRAL,), 32768, 1, {}, 20, 2_097_152, 2_688_548_864, 261_939, 7.993754879000781),
    ("deepseek-v3 on eight", (DEEPSEEK,), 163840, 8, {}, 20, 4_497_408, 11_517_861_888, 305_536, 1.86484375),
    ("pages of two sizes", TWO_PAGES, 8192, 1, {}, 20, 524_288, 672_137_216, 261_939, 31.975019516003123),
]


@pytest.mark.parametrize("case", CASES, ids=[case[0] for case in CASES])
def test_blocks_tokens_and_concurrency_are_those_of_vllm(case: tuple[Any, ...]) -> None:
    _, layers, length, ranks, flags, given, block, least, tokens, requests = case
    facts = replace(LLAMA_8B, cache_layers=layers, max_model_len=length)
    demand = estimate(server(facts, tensor_parallel_size=ranks, extra_args=flags), facts, H100, Settings())
    assert (demand.kv_block_bytes, demand.kv_least) == (block, least)
    assert kv_tokens(demand, given * GIB) == tokens
    assert requests_at_full_length(demand, given * GIB) == pytest.approx(requests)


@pytest.mark.parametrize(("ranks", "per_token"), [(1, 131072), (2, 65536), (8, 16384), (16, 16384), (64, 16384)])
def test_ranks_beyond_the_kv_heads_keep_copies(ranks: int, per_token: int) -> None:
    demand = estimate(server(LLAMA_8B, tensor_parallel_size=ranks), LLAMA_8B, H100, Settings())
    assert demand.kv_bytes_per_token == per_token


@given(length=st.integers(1, 200_000), window=st.integers(1, 10_000), full=st.integers(0, 40), near=st.integers(0, 40))
def test_the_least_cache_holds_exactly_one_request_of_full_length(
    length: int, window: int, full: int, near: int
) -> None:
    layers = (CacheLayers(full, 8, 256), CacheLayers(near, 8, 256, window))
    facts = replace(LLAMA_8B, cache_layers=layers, max_model_len=length)
    demand = estimate(server(facts), facts, H100, Settings())
    if full + near == 0:
        assert demand.kv_least == demand.kv_bytes_per_token == kv_tokens(demand, GIB) == 0
        return
    alone = demand.kv_least - demand.kv_block_bytes  # but for the block that vLLM never gives away
    assert requests_at_full_length(demand, alone) == 1
    assert requests_at_full_length(demand, alone - 1) < 1
    longer = estimate(server(facts, max_model_len=length + 1), facts, H100, Settings())
    assert longer.kv_least >= demand.kv_least
