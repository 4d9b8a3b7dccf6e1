"""Weights by what tensor parallelism does to them, and the parameters they hold.

Which tensors vLLM divides stands in its models: ``ColumnParallelLinear``, ``RowParallelLinear``,
``VocabParallelEmbedding`` and ``FusedMoE`` divide, ``QKVParallelLinear`` divides keys and values as far as there are
KV heads, ``ReplicatedLinear``, ``nn.Linear``, ``nn.Embedding`` and norms lie on every rank.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vllm_fleet.plan.models.facts import Weights
from vllm_fleet.plan.models.tensors import ITEM_BYTES, Tensor

KV = re.compile(r"\.(k_proj|v_proj|key|value|wk|wv)$")
# Queries, keys and values in one matrix.
FUSED = re.compile(r"\.(qkv_proj|query_key_value|Wqkv|wqkv|c_attn|qkv|Wqkv_proj)$")
REPLICATED = re.compile(
    r"(position_embeddings?|token_type_embeddings|\.wpe|pooler\.dense|classifier\.(dense|out_proj)|\.?score"
    r"|\.gate|\.router|shared_expert_gate|q_a_proj|kv_a_proj_with_mqa|patch_embed(ding)?|norm\d?|LayerNorm"
    r"|mm_input_projection_weight|multi_modal_projector\.[\w.#]+|\.wk_weights_proj|\.indexer\.[\w.]+)$"
)
BIAS_OF_DIVIDED = re.compile(r"\.(q_proj|k_proj|v_proj|query|key|value|fc1|intermediate\.dense|experts\.gate_up_proj)$")
# What a matrix consists of; of a quantized one only these hold its values.
VALUES = ("qweight", "weight_packed", "weight", "blocks")
PARTS = re.compile(
    r"[._](qweight|qzeros|scales|g_idx|weight_packed|weight_scale(_inv|_2)?|weight_zero_point|weight_shape|weight_g_idx"
    r"|input_scale|blocks|weight|bias)$"
)
# Of float32 in a model of another dtype, and used as such.
OWN_DTYPE = re.compile(r"(scale(_inv|_2)?|e_score_correction_bias)$")
NOT_LOADED = re.compile(r"(rotary_emb\.inv_freq|^mtp\..*|masked_bias|attn\.bias|position_ids)$")


def loaded(tensors: Iterable[Tensor], tied: bool) -> list[Tensor]:
    """Return the tensors that stay in memory.

    An ``lm_head`` that is tied to the embedding is loaded, compared and let go (vLLM's maybe_retie_word_embeddings).
    """
    return [
        tensor
        for tensor in tensors
        if not NOT_LOADED.search(tensor.name) and not (tied and tensor.name.endswith("lm_head.weight"))
    ]


def classified(tensors: Sequence[Tensor], heads: int, kv_heads: int) -> Weights:
    """Return the bytes of some tensors by what tensor parallelism does to them.

    Args:
        tensors: those that are loaded.
        heads: attention heads, to tell keys and values in a fused matrix.
        kv_heads: KV heads, likewise.
    """
    found: Counter[str] = Counter()
    for tensor in tensors:
        place = _place(tensor.name, len(tensor.shape) > 1)
        if place == "fused":
            keys_and_values = tensor.bytes * 2 * kv_heads // (heads + 2 * kv_heads)
            found["kv_projections"] += keys_and_values
            found["sharded"] += tensor.bytes - keys_and_values
        else:
            found[place] += tensor.bytes
    return Weights(
        sharded=found["sharded"],
        kv_projections=found["kv_projections"],
        replicated=found["replicated"],
        other_dtype=sum(tensor.bytes for tensor in tensors if _keeps_dtype(tensor.name, tensor.dtype)),
        stored_item_bytes=ITEM_BYTES[stored_dtype(tensors) or "F16"],
    )


@functools.cache
def _place(name: str, matrix: bool) -> str:
    """Return the field of `Weights` that a tensor counts for, or ``fused`` for queries, keys and values in one."""
    module, part = _split(name)
    if part == "g_idx" or REPLICATED.search(module) or (not matrix and not BIAS_OF_DIVIDED.search(module)):
        return "replicated"
    if KV.search(module):
        return "kv_projections"
    return "fused" if FUSED.search(module) else "sharded"


def parameters(tensors: Iterable[Tensor], quantization: Mapping[str, Any] | None) -> int:
    """Return the number of parameters, as models' names count them: packed values unpacked, scales left out."""
    bits = _bits(quantization or {})
    total = 0
    for tensor in tensors:
        _matrix, part = _split(tensor.name)
        if part in ("qweight", "weight_packed", "blocks") and tensor.dtype in ("I32", "U8", "I8"):
            packed = tensor.elements * 8 * ITEM_BYTES[tensor.dtype]
            total += packed // bits
        elif part == "weight" and tensor.dtype == "U8":  # bitsandbytes keeps values of 4 bits under the plain name
            total += tensor.elements * 8 // bits
        elif part in ("weight", "bias", "blocks", "") or part in VALUES:
            total += tensor.elements
    return total


def stored_dtype(tensors: Iterable[Tensor]) -> str | None:
    """Return the dtype of most bytes that are no quantized values."""
    rest: Counter[str] = Counter()
    for tensor in tensors:
        if not _keeps_dtype(tensor.name, tensor.dtype):
            rest[tensor.dtype] += tensor.bytes
    return rest.most_common(1)[0][0] if rest else None


@functools.cache
def _split(name: str) -> tuple[str, str]:
    """Return the name of the matrix a tensor belongs to, and which part of it the tensor is; empty where it is all."""
    found = PARTS.search(name)
    return (name[: found.start()], found.group(1)) if found else (name, "")


@functools.cache
def _keeps_dtype(name: str, dtype: str) -> bool:
    """Whether vLLM keeps the dtype of a tensor instead of converting it to the server's."""
    return dtype not in ("F16", "BF16", "F32", "F64") or (dtype == "F32" and bool(OWN_DTYPE.search(name)))


def _bits(quantization: Mapping[str, Any]) -> int:
    """Return the bits of one packed value."""
    groups = quantization.get("config_groups")
    if isinstance(groups, Mapping):
        for group in groups.values():
            weights = group.get("weights") if isinstance(group, Mapping) else None
            if isinstance(weights, Mapping) and isinstance(weights.get("num_bits"), int):
                return int(weights["num_bits"])
    for key in ("bits", "w_bit"):
        if isinstance(quantization.get(key), int):
            return int(quantization[key])
    return 8 if quantization.get("load_in_8bit") else 4
