"""Read a model's description: what `interpret` makes of it is all that the plan knows of a model.

A description is plain JSON, as the module model_facts and the files in ``shipped`` give it: ``source``, ``config``
(config.json), ``tokenizer_config`` (parts of it), ``chat_template``, ``max_seq_length`` (sentence_bert_config.json),
``sentence_transformer`` (whether modules.json says how to pool), ``weights`` (the tensors of the headers, alike ones
in one entry), ``files`` (sizes of the weight files in bytes) and ``published`` (what is known of a shipped model).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from vllm_fleet.plan.models import attention, kinds, layout, weights
from vllm_fleet.plan.models.config import Config, UnreadableModel
from vllm_fleet.plan.models.facts import ModelFacts, Weights
from vllm_fleet.plan.models.shipped import shipped
from vllm_fleet.plan.models.tensors import DTYPES, ITEM_BYTES, STORED, Tensor, described

__all__ = ["UnreadableModel", "interpret"]


def interpret(description: Mapping[str, Any], model: str) -> ModelFacts:
    """Return the facts of a model.

    Args:
        description: what was read of it.
        model: its name, as declared.

    Raises:
        UnreadableModel: the description says too little to plan with; its text is the reason.
    """
    if description is shipped(model):
        return _of_shipped(model)
    return _checked(description, model)


@functools.cache
def _of_shipped(model: str) -> ModelFacts:
    """Return the facts of a shipped model, once for all the hosts of a fleet."""
    return _checked(shipped(model) or {}, model)


def _checked(description: Mapping[str, Any], model: str) -> ModelFacts:
    try:
        return _interpreted(description, model)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise UnreadableModel(f"its config.json makes no sense: {error}") from error


def _interpreted(description: Mapping[str, Any], model: str) -> ModelFacts:
    config = Config(description.get("config"))
    if not config.architecture:
        raise UnreadableModel("its config.json names no architectures")
    found = kinds.traits(config.architecture)
    if "hybrid" in found:
        raise UnreadableModel(f"{config.architecture} keeps a state per request whose size this plan does not know")
    tokenizer = description.get("tokenizer_config")
    serves = kinds.kinds(config.architecture, kinds.label_count(config), bool(description.get("sentence_transformer")))
    layers, experts = config.number("num_hidden_layers"), _experts(config)
    tied = bool(config.get("tie_word_embeddings"))
    tensors, counted = _tensors(description, config, layers)
    if tensors is not None:
        tensors = weights.loaded(tensors, tied)
    dtype = config.dtype or DTYPES.get(weights.stored_dtype(tensors or ()) or "", "float32")
    sizes, parameters = _weights(description, config, tensors, dtype)
    return ModelFacts(
        model=model,
        source=str(description.get("source") or "directory"),
        architecture=config.architecture,
        model_type=config.text_type,
        kinds=serves,
        parameters=parameters,
        counted=counted,
        weights=sizes,
        dtype=dtype,
        layers=layers,
        hidden_size=config.number("hidden_size"),
        intermediate_size=config.number("intermediate_size", "n_inner", "ffn_hidden_size", "hidden_size"),
        attention_heads=config.number("num_attention_heads"),
        kv_heads=attention.kv_heads(config),
        head_size=attention.head_size(config),
        vocabulary=config.number("vocab_size", "padded_vocab_size"),
        max_model_len=attention.max_model_len(
            config,
            pooling=serves[:1] != ("llm",),
            tokenizer_length=_whole(tokenizer, "model_max_length"),
            sentence_length=_whole(description, "max_seq_length"),
        ),
        cache_layers=attention.cache_layers(config, encoder="encoder" in found),
        quantization=quantization(config),
        kv_lora_rank=attention.kv_lora_rank(config),
        experts=experts,
        experts_per_token=_count(config.get("num_experts_per_tok") or config.get("experts_per_token")),
        expert_size=config.number("moe_intermediate_size", "intermediate_size") if experts else None,
        quantization_block=_quantization_block(config),
        tied_embeddings=tied,
        remote_code=kinds.remote_code(config, tokenizer if isinstance(tokenizer, Mapping) else None),
        chat_template=_text(description.get("chat_template")),
        default_max_model_len=attention.default_max_model_len(config),
        transformers_version=_text(config.whole.get("transformers_version")),
    )


def quantization(config: Config) -> str | None:
    """Return the method of the model's quantization in vLLM's spelling (`_normalize_quantization_config`)."""
    found = config.quantization
    if found is None:
        return None
    inner = found.get("quantization")
    producer = found.get("producer")
    legacy = isinstance(inner, Mapping) and "modelopt_quant_config" in inner
    if legacy or (isinstance(producer, Mapping) and producer.get("name") == "modelopt"):
        algorithm = str(inner.get("quant_algo") if isinstance(inner, Mapping) else "").upper()
        return "modelopt_fp4" if algorithm == "NVFP4" else "modelopt"
    method = str(found.get("quant_method") or "").lower().replace("compressed_tensors", "compressed-tensors")
    return method or None


def _tensors(description: Mapping[str, Any], config: Config, layers: int) -> tuple[list[Tensor] | None, bool]:
    """Return the tensors, None where only the sizes of files are known, and whether they were counted."""
    if description.get("weights"):
        return described(description["weights"], layers), True
    published = description.get("published") or {}
    try:
        tensors = layout.expected(config, config.dtype or published.get("dtype") or "float32")
    except UnreadableModel:
        if description.get("files"):
            return None, False
        raise
    expected, on_disk = sum(tensor.bytes for tensor in tensors), _total(description)
    # Files hold little beside the tensors; a .bin of PyTorch less than one percent.
    return tensors, expected == published.get("weight_bytes") or expected <= on_disk <= expected * 1.01


def _weights(
    description: Mapping[str, Any], config: Config, tensors: list[Tensor] | None, dtype: str
) -> tuple[Weights, int]:
    """Return bytes and number of the parameters; of files alone all counts as divided."""
    if tensors is None:
        total = _total(description)
        item = ITEM_BYTES[STORED.get(dtype, "F32")]
        quantized = total if config.quantization else 0
        return Weights(total, 0, 0, quantized, item), total // item
    sizes = weights.classified(tensors, config.number("num_attention_heads"), attention.kv_heads(config))
    return sizes, weights.parameters(tensors, config.quantization)


def _total(description: Mapping[str, Any]) -> int:
    files = description.get("files")
    return sum(size for size in files.values() if isinstance(size, int)) if isinstance(files, Mapping) else 0


def _experts(config: Config) -> int | None:
    for key in ("num_experts", "moe_num_experts", "n_routed_experts", "num_local_experts"):
        value = config.get(key)
        if isinstance(value, int) and value > 0:
            return value
    return None


def _quantization_block(config: Config) -> int | None:
    """Return the block of fp8 that is scaled by block, or the group of awq; vLLM refuses to divide them."""
    found = config.quantization or {}
    block = found.get("weight_block_size")
    if found.get("quant_method") == "fp8" and isinstance(block, list) and block:
        return int(block[0])
    group = found.get("group_size")
    return group if found.get("quant_method") == "awq" and isinstance(group, int) and group > 0 else None


def _whole(part: object, key: str) -> int | None:
    return _count(part.get(key)) if isinstance(part, Mapping) else None


def _count(value: object) -> int | None:
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) and value > 0 else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
