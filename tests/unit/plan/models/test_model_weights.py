"""Tensors by what tensor parallelism does to them, and the parameters behind packed values."""

from __future__ import annotations

from typing import Any

import pytest

from vllm_fleet.plan.models.tensors import Tensor, described
from vllm_fleet.plan.models.weights import classified, loaded, parameters

SHARDED = (
    "model.embed_tokens.weight",
    "lm_head.weight",
    "model.layers.#.self_attn.q_proj.weight",
    "model.layers.#.self_attn.o_proj.weight",
    "model.layers.#.self_attn.q_b_proj.weight",
    "model.layers.#.self_attn.kv_b_proj.weight",
    "model.layers.#.mlp.gate_proj.weight",
    "model.layers.#.mlp.experts.#.down_proj.weight_scale_inv",
    "model.layers.#.block_sparse_moe.experts.#.w1.weight",
    "model.layers.#.mlp.down_proj.qweight",
    "encoder.layer.#.attention.self.query.weight",
    "roberta.encoder.layer.#.output.dense.weight",
    "embeddings.word_embeddings.weight",
)
KV = (
    "model.layers.#.self_attn.k_proj.weight",
    "model.layers.#.self_attn.v_proj.scales",
    "model.layers.#.self_attn.k_proj.weight_packed",
    "encoder.layer.#.attention.self.key.weight",
)
REPLICATED = (
    "model.layers.#.mlp.gate.weight",
    "model.layers.#.block_sparse_moe.gate.weight",
    "model.layers.#.mlp.router.weight",
    "model.layers.#.mlp.shared_expert_gate.weight",
    "model.layers.#.self_attn.q_a_proj.weight",
    "model.layers.#.self_attn.kv_a_proj_with_mqa.weight",
    "embeddings.position_embeddings.weight",
    "embeddings.token_type_embeddings.weight",
    "pooler.dense.weight",
    "classifier.out_proj.weight",
    "transformer.wpe.weight",
)


@pytest.mark.parametrize(
    ("names", "part"), [(SHARDED, "sharded"), (KV, "kv_projections"), (REPLICATED, "replicated")], ids=lambda v: v[0]
)
def test_a_matrix_goes_where_vllm_puts_it(names: tuple[str, ...], part: str) -> None:
    for name in names:
        weights = classified([Tensor(name, (8, 4), "F16")], heads=4, kv_heads=2)
        assert getattr(weights, part) == weights.total == 64, name


def test_a_fused_matrix_is_divided_by_its_heads() -> None:
    fused = [Tensor("transformer.h.#.attn.qkv_proj.weight", (64, 8), "BF16")]
    weights = classified(fused, heads=4, kv_heads=2)
    assert (weights.sharded, weights.kv_projections) == (512, 512)


def test_norms_lie_on_every_rank_and_biases_of_queries_do_not() -> None:
    vectors = [Tensor("model.norm.weight", (8,), "F32"), Tensor("model.layers.#.self_attn.q_proj.bias", (8,), "F32")]
    weights = classified(vectors, heads=4, kv_heads=2)
    assert (weights.replicated, weights.sharded) == (32, 32)


def test_quantized_values_and_their_scales_keep_their_dtype() -> None:
    tensors = [
        Tensor("model.layers.#.mlp.up_proj.weight", (128, 128), "F8_E4M3", 2),
        Tensor("model.layers.#.mlp.up_proj.weight_scale_inv", (1, 1), "F32", 2),
        Tensor("model.embed_tokens.weight", (16, 128), "BF16"),
    ]
    weights = classified(tensors, heads=4, kv_heads=2)
    assert weights.other_dtype == 2 * (128 * 128 + 4)
    assert weights.stored_item_bytes == 2


PACKED = {
    "awq": ([("qweight", (128, 16), "I32"), ("qzeros", (1, 16), "I32"), ("scales", (1, 128), "F16")], {"bits": 4}),
    "gptq of 8 bits": ([("qweight", (32, 128), "I32"), ("g_idx", (128,), "I32")], {"bits": 8}),
    "compressed-tensors": (
        [("weight_packed", (128, 16), "I32"), ("weight_scale", (128, 1), "BF16"), ("weight_shape", (2,), "I64")],
        {"config_groups": {"group_0": {"weights": {"num_bits": 4}}}},
    ),
    "nvfp4": ([("weight_packed", (128, 64), "U8"), ("weight_scale", (128, 8), "F8_E4M3")], {}),
    "bitsandbytes": ([("weight", (8192, 1), "U8")], {"load_in_4bit": True}),
    "fp8": ([("weight", (128, 128), "F8_E4M3"), ("weight_scale", (1,), "F32"), ("input_scale", (1,), "F32")], {}),
    "none": ([("weight", (128, 128), "F16")], None),
}


@pytest.mark.parametrize("method", PACKED)
def test_a_matrix_of_128_by_128_has_16384_parameters_however_it_is_packed(method: str) -> None:
    parts, quantization = PACKED[method]
    tensors = [Tensor(f"model.layers.#.mlp.up_proj.{part}", shape, dtype) for part, shape, dtype in parts]
    assert parameters(tensors, quantization) == 128 * 128


def test_a_head_that_is_tied_does_not_stay_in_memory() -> None:
    tensors = [Tensor("model.embed_tokens.weight", (16, 8), "F16"), Tensor("lm_head.weight", (16, 8), "F16")]
    assert loaded(tensors, tied=True) == tensors[:1]
    assert loaded(tensors, tied=False) == tensors


def entry(**changes: Any) -> dict[str, Any]:
    return {"name": "model.layers.#.mlp.up_proj.weight", "shape": [4, 4], "dtype": "F16", "count": 3, **changes}


def test_layers_behind_the_last_are_not_loaded() -> None:
    [tensor] = described([entry(layers=[[0, 2, 1]])], layers=2)
    assert tensor.count == 2
    [experts] = described([entry(name="model.layers.#.mlp.experts.#.w1.weight", layers=[[1, 2, 8]])], layers=2)
    assert experts.count == 8
    [vision] = described([entry(name="vision_tower.layers.#.fc1.weight", layers=[[0, 2, 1]])], layers=2)
    assert vision.count == 3
