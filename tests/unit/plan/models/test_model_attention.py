"""Heads, caches and lengths from config.json, as vLLM reads them."""

from __future__ import annotations

from typing import Any

import pytest

from vllm_fleet.plan.models.attention import cache_layers, default_max_model_len, head_size, kv_heads, max_model_len
from vllm_fleet.plan.models.config import Config, UnreadableModel
from vllm_fleet.plan.models.facts import CacheLayers

LLAMA = {
    "model_type": "llama",
    "hidden_size": 4096,
    "num_hidden_layers": 4,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 4096,
}


def config(**changes: Any) -> Config:
    return Config({**LLAMA, **changes})


@pytest.mark.parametrize(
    ("changes", "heads"),
    [
        ({}, 8),
        ({"num_key_value_heads": None}, 32),
        ({"model_type": "chatglm", "num_key_value_heads": None, "multi_query_group_num": 2}, 2),
        ({"model_type": "falcon", "multi_query": True, "num_key_value_heads": 32}, 1),
        ({"model_type": "falcon", "new_decoder_architecture": True, "num_kv_heads": 8, "num_key_value_heads": None}, 8),
    ],
)
def test_kv_heads_by_whatever_name(changes: dict[str, Any], heads: int) -> None:
    assert kv_heads(config(**changes)) == heads


def test_heads_may_be_larger_than_their_part_of_the_hidden_size() -> None:
    assert head_size(config()) == 128
    assert head_size(config(head_dim=256)) == 256
    assert head_size(config(head_dim=None)) == 128


def full(count: int) -> CacheLayers:
    return CacheLayers(count, 8, 256)


def windowed(count: int, window: int = 1024) -> CacheLayers:
    return CacheLayers(count, 8, 256, window)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, [full(4)]),
        ({"model_type": "mistral", "sliding_window": 1024}, [windowed(4)]),
        ({"model_type": "mistral", "sliding_window": None}, [full(4)]),
        ({"model_type": "qwen2", "sliding_window": 1024, "use_sliding_window": False}, [full(4)]),
        (
            {"model_type": "qwen2", "sliding_window": 1024, "use_sliding_window": True, "max_window_layers": 3},
            [full(3), windowed(1)],
        ),
        ({"model_type": "gemma2", "sliding_window": 1024, "head_dim": 128}, [windowed(2), full(2)]),
        ({"model_type": "cohere2", "sliding_window": 1024}, [windowed(3), full(1)]),
        (
            {"layer_types": ["sliding_attention"] + ["full_attention"] * 3, "sliding_window": 1024},
            [windowed(1), full(3)],
        ),
        ({"num_kv_shared_layers": 2}, [full(2)]),
        (
            {"model_type": "gemma4_text", "sliding_window": 1024, "head_dim": 128, "global_head_dim": 512}
            | {"layer_types": ["sliding_attention", "full_attention"] * 2, "num_global_key_value_heads": 2},
            [windowed(2), CacheLayers(2, 2, 1024)],
        ),
        ({"per_layer_config": {"03": {"head_dim": 512}}}, [full(3), CacheLayers(1, 8, 1024)]),
        (
            {"model_type": "deepseek_v3", "kv_lora_rank": 512, "qk_rope_head_dim": 64},
            [CacheLayers(4, 0, 576)],
        ),
    ],
)
def test_what_the_layers_cache(changes: dict[str, Any], expected: list[CacheLayers]) -> None:
    assert sorted(map(str, cache_layers(config(**changes), encoder=False))) == sorted(map(str, expected))


def test_an_encoder_caches_nothing() -> None:
    assert cache_layers(config(), encoder=True) == ()


@pytest.mark.parametrize("changes", [{"layer_types": ["mamba"] * 4}, {"block_configs": [{}]}])
def test_layers_that_are_not_understood_are_refused_not_guessed(changes: dict[str, Any]) -> None:
    with pytest.raises(UnreadableModel):
        cache_layers(config(**changes), encoder=False)


@pytest.mark.parametrize(
    ("changes", "length"),
    [
        ({}, 4096),
        ({"max_position_embeddings": None}, 2048),
        ({"rope_scaling": {"type": "linear", "factor": 4.0}}, 16384),
        ({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, 8192),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, 4096),
        ({"rope_scaling": {"type": "yarn", "factor": 40, "original_max_position_embeddings": 4096}}, 4096),
        ({"rope_scaling": {"type": "longrope", "long_factor": [1.0], "short_factor": [1.0]}}, 4096),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}}, 4096),
        ({"rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 8.0}}}, 32768),
        ({"model_type": "gemma3_text", "rope_scaling": {"rope_type": "linear", "factor": 8.0}}, 4096),
        ({"model_max_length": 65536}, 65536),
        ({"seq_length": 1024}, 1024),
    ],
)
def test_the_longest_request(changes: dict[str, Any], length: int) -> None:
    assert max_model_len(config(**changes), pooling=False) == length


def test_long_rope_is_used_only_as_far_as_it_is_declared() -> None:
    longrope = {"type": "longrope", "long_factor": [1.0], "short_factor": [1.0]}
    changes = {"model_type": "phi3", "max_position_embeddings": 131072, "original_max_position_embeddings": 4096}
    assert default_max_model_len(config(**changes, rope_scaling=longrope)) == 4096
    assert default_max_model_len(config(**changes)) is None


def test_the_longest_input_of_an_encoder_is_what_its_tokenizer_and_its_pooling_allow() -> None:
    encoder = config(model_type="xlm-roberta", max_position_embeddings=8194, position_embedding_type="absolute")
    assert max_model_len(encoder, pooling=True, tokenizer_length=8192) == 8192
    assert max_model_len(encoder, pooling=False, tokenizer_length=8192) == 8194
    assert max_model_len(encoder, pooling=True, tokenizer_length=8192, sentence_length=512) == 512
