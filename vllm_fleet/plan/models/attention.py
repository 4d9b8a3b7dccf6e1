"""Attention: heads, their size, what of it is cached, and how long a request may be.

The formulas are those of vLLM's transformers_utils/model_arch_config_convertor.py and config/model.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from vllm_fleet.plan.models.catalogue import catalogue
from vllm_fleet.plan.models.config import Config, UnreadableModel
from vllm_fleet.plan.models.facts import CacheLayers

LENGTH_KEYS = (
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "seq_length",
    "model_max_length",
    "max_target_positions",
    "max_sequence_length",
    "max_seq_length",
    "seq_len",
)
# vLLM's length for a model that says nothing of it.
DEFAULT_LENGTH = 2048
# These say in max_position_embeddings what they reach with their scaling, not without.
SCALED_ALREADY = ("su", "longrope", "llama3", "yarn", "deepseek_yarn", "deepseek_llama_scaling")
LETTERS = {"sliding_attention": "s", "chunked_attention": "c", "full_attention": "f"}


def kv_lora_rank(config: Config) -> int | None:
    """Return the width of MLA's latent in elements, None for other attention (`is_deepseek_mla`)."""
    rank = config.get("kv_lora_rank")
    return rank if config.text_type in catalogue().mla and isinstance(rank, int) else None


def kv_heads(config: Config) -> int:
    """Return the number of KV heads of the whole model (`get_total_num_kv_heads`)."""
    if config.text_type in ("falcon", "RefinedWeb", "RefinedWebModel") and not config.get("new_decoder_architecture"):
        return 1 if config.get("multi_query", True) else config.number("num_attention_heads")
    keys = ("n_head_kv", "num_kv_heads", "num_key_value_heads", "multi_query_group_num", "num_attention_groups")
    return config.number(*keys, "num_attention_heads")


def head_size(config: Config) -> int:
    """Return the elements of one head; for MLA those of what is cached per token (`get_head_size`)."""
    rank = kv_lora_rank(config)
    if rank is not None:
        return rank + config.number("qk_rope_head_dim")
    size = config.get("head_dim") or config.get("hidden_size_per_head")
    if isinstance(size, int) and size > 0:
        return size
    return config.number("hidden_size") // config.number("num_attention_heads")


def cache_layers(config: Config, encoder: bool) -> tuple[CacheLayers, ...]:
    """Return what the layers cache, grouped; nothing for an encoder.

    Layers with a window of their own come from ``layer_types``, or from the pattern of the model type; a window that
    config.json gives without either is that of all layers (vLLM's engine/arg_utils.py, ``CacheConfig.sliding_window``).

    Raises:
        UnreadableModel: layers differ in a way that is not known here.
    """
    if encoder:
        return ()
    layers = config.number("num_hidden_layers")
    rank = kv_lora_rank(config)
    if rank is not None:
        return (CacheLayers(layers, 0, rank + config.number("qk_rope_head_dim")),)
    if config.get("block_configs"):
        raise UnreadableModel("its layers are described by block_configs, which this plan does not know")
    windows = {"f": None, "s": _window(config), "c": config.get("attention_chunk_size")}
    letters = _letters(config, layers)
    # The last layers of some models read the cache of earlier ones.
    letters = letters[: layers - int(config.get("num_kv_shared_layers") or 0)]
    heads = _heads_by_layer(config, letters)
    counts = Counter((windows[letter], *of_layer) for letter, of_layer in zip(letters, heads, strict=True))
    return tuple(CacheLayers(count, number, 2 * size, window) for (window, number, size), count in counts.items())


def _heads_by_layer(config: Config, letters: str) -> list[tuple[int, int]]:
    """Return KV heads and the size of a head of each layer; gemma-4 has other ones in its layers of full attention."""
    heads, size = kv_heads(config), head_size(config)
    whole = (config.get("num_global_key_value_heads") or heads, config.get("global_head_dim") or size)
    found = [whole if letter == "f" else (heads, size) for letter in letters]
    for layer, own in (config.get("per_layer_config") or {}).items():
        if int(layer) < len(found):
            found[int(layer)] = (own.get("num_key_value_heads") or heads, own.get("head_dim") or size)
    return found


def _window(config: Config) -> int | None:
    window = config.get("sliding_window")
    if config.get("use_sliding_window") is False or not isinstance(window, int) or window <= 0:
        return None
    return window


def _letters(config: Config, layers: int) -> str:
    """Return a letter per layer: f for full attention, s with a sliding window, c chunked."""
    listed = config.get("layer_types")
    if isinstance(listed, list):
        unknown = sorted({str(kind) for kind in listed if kind not in LETTERS})
        if unknown:
            raise UnreadableModel(f"it has layers of type {', '.join(unknown)}, whose cache is not known")
        return "".join(LETTERS[kind] for kind in listed)[:layers]
    if _window(config) is not None and config.get("use_sliding_window") and config.get("max_window_layers") is not None:
        # Qwen2 and Qwen3: the first layers see everything.
        full = min(int(config.get("max_window_layers")), layers)
        return "f" * full + "s" * (layers - full)
    pattern = config.layer_pattern
    if pattern is not None and set(pattern) <= {"f", "s", "c"}:
        every = config.get("sliding_window_pattern")
        if isinstance(every, int) and every > 1:
            pattern = "s" * (every - 1) + "f"
        return (pattern * layers)[:layers]
    return ("s" if _window(config) is not None else "f") * layers


def max_model_len(
    config: Config, pooling: bool, tokenizer_length: int | None = None, sentence_length: int | None = None
) -> int:
    """Return the tokens a request may have (`_get_and_verify_max_len`).

    Args:
        config: the model's.
        pooling: whether it runs as a pooling model.
        tokenizer_length: ``model_max_length`` of tokenizer_config.json; counts for absolute positions only.
        sentence_length: ``max_seq_length`` of sentence_bert_config.json; replaces everything else.
    """
    found = [value for key in LENGTH_KEYS if isinstance(value := config.get(key), int | float) and value > 0]
    length = min(found) if found else DEFAULT_LENGTH
    if override := config.get("model_max_length"):
        length = override
    if pooling and tokenizer_length and config.whole.get("position_embedding_type") == "absolute":
        length = min(length, tokenizer_length)
    ropes = list(_ropes(config))
    if "gemma3" not in config.model_type:  # its length is what it reaches with its scaling
        factors = [rope.get("factor") for rope in ropes if _rope_type(rope) not in SCALED_ALREADY]
        length *= next((factor for factor in reversed(factors) if isinstance(factor, int | float)), 1)
    if sentence_length:
        return sentence_length
    return int(length)


def default_max_model_len(config: Config) -> int | None:
    """Return the tokens vLLM allows where no length is declared, None where that is the most there may be.

    Longer requests cost LongRoPE models quality in short ones, so vLLM leaves their stretch to the declaration.
    """
    before = config.get("original_max_position_embeddings")
    longrope = any(_rope_type(rope) in ("longrope", "su") for rope in _ropes(config))
    return before if longrope and isinstance(before, int) else None


def _ropes(config: Config) -> Iterator[Mapping[str, Any]]:
    """Yield the parameters of rotary embeddings, one per kind of layer where those differ."""
    for key in ("rope_parameters", "rope_scaling"):
        found = config.get(key)
        if not isinstance(found, Mapping):
            continue
        nested = [value for value in found.values() if isinstance(value, Mapping)]
        yield from nested or [found]


def _rope_type(rope: Mapping[str, Any]) -> str:
    return str(rope.get("rope_type") or rope.get("type") or "default")
