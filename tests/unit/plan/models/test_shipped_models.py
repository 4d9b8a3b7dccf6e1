"""The shipped models against what is published of them: config.json's numbers give the bytes on disk to the byte.

The descriptions are constructed from the published config.json files; ``weight_bytes`` is ``total_size`` of
model.safetensors.index.json, or the parameters' bytes of a single file.
"""

from __future__ import annotations

from collections import Counter

import pytest

from vllm_fleet.plan.models.config import Config
from vllm_fleet.plan.models.facts import CacheLayers, ModelFacts
from vllm_fleet.plan.models.layout import expected
from vllm_fleet.plan.models.read import interpret
from vllm_fleet.plan.models.shipped import names, shipped

GIB = 1 << 30


def facts(model: str) -> ModelFacts:
    description = shipped(model)
    assert description is not None
    return interpret(description, model)


@pytest.mark.parametrize("model", names())
def test_parameters_and_bytes_are_the_published_ones(model: str) -> None:
    description = shipped(model)
    assert description is not None
    found, published = facts(model), description["published"]
    assert found.parameters == published["parameters"]
    if "weight_bytes" in published:
        assert found.weights.total == published["weight_bytes"]
        assert found.counted


# Model: kinds, maximum length, KV cache in bytes per token of a 16-bit cache, remote code, as known of each.
KNOWN = {
    "Qwen/Qwen2.5-3B-Instruct": (("llm", "embedding"), 32768, 36 << 10),
    "Qwen/Qwen2.5-7B-Instruct": (("llm", "embedding"), 32768, 56 << 10),
    "Qwen/Qwen2.5-72B-Instruct": (("llm", "embedding"), 32768, 320 << 10),
    "meta-llama/Llama-3.1-8B-Instruct": (("llm", "embedding"), 131072, 128 << 10),
    "meta-llama/Llama-3.1-70B-Instruct": (("llm", "embedding"), 131072, 320 << 10),
    "mistralai/Mistral-7B-Instruct-v0.3": (("llm", "embedding"), 32768, 128 << 10),
    "Qwen/Qwen3-30B-A3B": (("llm", "embedding"), 40960, 96 << 10),
    "Qwen/Qwen3-Embedding-0.6B": (("embedding", "llm"), 32768, 112 << 10),
    "deepseek-ai/DeepSeek-V3": (("llm", "embedding"), 163840, 61 * 576 * 2),
    "BAAI/bge-m3": (("embedding",), 8192, 0),
    "BAAI/bge-reranker-v2-m3": (("rerank",), 8192, 0),
}


@pytest.mark.parametrize("model", KNOWN)
def test_kinds_length_and_cache(model: str) -> None:
    found = facts(model)
    per_token = sum(group.count * max(group.kv_heads, 1) * group.size * 2 for group in found.cache_layers)
    assert (found.kinds, found.max_model_len, per_token) == KNOWN[model]
    assert found.remote_code is False


def test_gemma_3_and_gpt_oss_look_back_a_window_in_most_layers_though_config_json_lists_none() -> None:
    assert facts("google/gemma-3-27b-it").cache_layers == (CacheLayers(52, 16, 256, 1024), CacheLayers(10, 16, 256))
    assert facts("openai/gpt-oss-20b").cache_layers == (CacheLayers(12, 8, 128, 128), CacheLayers(12, 8, 128))


def test_deepseek_v3_s_own_counts_are_reached_with_its_layer_of_multi_token_prediction() -> None:
    """Published: 680,571,043,840 elements of fp8, and 41,555,600 of float32 (scales and the router's corrections)."""
    description = shipped("deepseek-ai/DeepSeek-V3")
    assert description is not None
    totals: Counter[str] = Counter()
    for tensor in expected(Config(description["config"]), "bfloat16"):
        # One more layer of experts: 58 of the 61 layers have them, and all have attention.
        layers = 58 if ".mlp.gate." in tensor.name or ".experts." in tensor.name or "shared" in tensor.name else 61
        dense = ".mlp." in tensor.name and layers == 61
        one_more = 0 if dense or "layers.#" not in tensor.name else tensor.elements // layers
        totals[tensor.dtype] += tensor.elements + one_more
    assert totals["F8_E4M3"] == 680_571_043_840
    assert totals["F32"] == 41_555_600


def test_sizes_of_files_are_those_of_the_hub() -> None:
    # Files hold a header beside the tensors: 48,744 bytes in bge-reranker-v2-m3's one file of 2,271,071,852.
    assert facts("BAAI/bge-reranker-v2-m3").weights.total == 2_271_071_852 - 48_744
    # Qwen2.5-7B-Instruct-AWQ is published as 3.99 and 1.58 GB.
    assert facts("Qwen/Qwen2.5-7B-Instruct-AWQ").weights.total == pytest.approx(5.57e9, rel=0.001)


def test_a_model_nobody_knows_is_not_shipped() -> None:
    assert shipped("nobody/knows") is None
