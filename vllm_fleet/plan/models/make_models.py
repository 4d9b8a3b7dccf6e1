"""Write ``vllm_models.json`` from the vLLM and Transformers that run this file. Run by scripts/make-vllm-models."""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path
from typing import Any

# What `vllm_fleet.plan.models` reads of a configuration that config.json may leave to its class.
KEYS = (
    "attention_chunk_size",
    "first_k_dense_replace",
    "head_dim",
    "hidden_size",
    "intermediate_size",
    "kv_lora_rank",
    "max_position_embeddings",
    "max_window_layers",
    "moe_intermediate_size",
    "moe_layer_freq",
    "n_group",
    "n_routed_experts",
    "n_shared_experts",
    "num_attention_heads",
    "num_experts",
    "num_hidden_layers",
    "num_key_value_heads",
    "num_local_experts",
    "q_lora_rank",
    "qk_nope_head_dim",
    "qk_rope_head_dim",
    "sliding_window",
    "tie_word_embeddings",
    "type_vocab_size",
    "use_sliding_window",
    "v_head_dim",
    "vocab_size",
)
LETTERS = {"full_attention": "f", "sliding_attention": "s", "chunked_attention": "c", "linear_attention": "l"}
LONGEST_PATTERN = 8


def architectures() -> dict[str, list[str]]:
    """Return what each architecture of vLLM's registry is, as a list of traits."""
    from vllm.model_executor.models import registry

    traits = {}
    scored = {*registry._SEQUENCE_CLASSIFICATION_MODELS, *registry._LATE_INTERACTION_MODELS}
    generating = {
        *registry._TEXT_GENERATION_MODELS,
        *registry._MULTIMODAL_MODELS,
        *registry._TRANSFORMERS_SUPPORTED_MODELS,
        *registry._TRANSFORMERS_BACKEND_MODELS,
    }
    for name in registry._VLLM_MODELS:
        if name in registry._SPECULATIVE_DECODING_MODELS:
            continue
        try:
            entry = registry.ModelRegistry.models[name]
            info = registry._ModelInfo.from_model_cls(entry.load_model_cls())
            found = {
                # LlamaModel and the like run the class of a generating model without its head.
                "generate": info.is_text_generation_model
                and not info.supports_transcription_only
                and name in generating,
                "pooling": info.is_pooling_model or (name in registry._EMBEDDING_MODELS and name not in generating),
                "scores": info.score_type in ("cross-encoder", "late-interaction") or name in scored,
                "encoder": info.is_pooling_model
                and (info.attn_type == "encoder_only" or info.default_seq_pooling_type == "CLS"),
                "hybrid": info.is_hybrid or info.has_inner_state or info.is_attention_free,
                "multimodal": info.supports_multimodal,
            }
        except Exception as error:  # a class that needs a package or a device that is not here
            print(f"{name}: known by its place in the registry only: {error}")
            found = {
                "generate": name in generating,
                "pooling": name not in generating,
                "scores": name in scored,
                "multimodal": name in registry._MULTIMODAL_MODELS,
            }
        traits[name] = [trait for trait, there in found.items() if there]
    return traits


def pattern(layer_types: list[str] | None) -> str | None:
    """Return the shortest run of layers that repeats, a letter each, or None where all are alike or none repeats."""
    letters = "".join(LETTERS.get(kind, "?") for kind in layer_types or ())
    for length in range(2, LONGEST_PATTERN + 1):
        if len(set(letters)) > 1 and all(letters[i] == letters[i % length] for i in range(len(letters))):
            return letters[:length]
    return None


def attribute(config: Any, key: str) -> Any:
    """Return an attribute of a configuration, or None where it has none or one per layer."""
    try:
        return getattr(config, key, None)
    except Exception:  # Transformers' own error for what differs between layers
        return None


def defaults(cls: Any, config: Any) -> dict[str, Any]:
    """Return what a configuration that says nothing has, but for what is derived from the number of heads."""
    found = {key: value for key in KEYS if isinstance(value := attribute(config, key), bool | int | float)}
    other = cls(num_attention_heads=2 * config.num_attention_heads)
    return {
        key: value
        for key, value in found.items()
        if key not in ("head_dim", "num_key_value_heads") or attribute(other, key) == value
    }


def model_types() -> dict[str, dict[str, Any]]:
    """Return, for each model type known without remote code, the defaults and other names of its configuration.

    They are empty for what is no language model.
    """
    from transformers import CONFIG_MAPPING
    from vllm.transformers_utils.config import _CONFIG_REGISTRY

    found: dict[str, dict[str, Any]] = {}
    for name in sorted({*CONFIG_MAPPING, *_CONFIG_REGISTRY}):
        found[name] = {}
        try:
            cls = _CONFIG_REGISTRY[name] if name in _CONFIG_REGISTRY else CONFIG_MAPPING[name]
            config = cls()
            text = config.get_text_config()
        except Exception as error:  # needs arguments, or a package that is not here
            print(f"{name}: no defaults: {error}")
            continue
        renamed = {old: new for new, old in (getattr(cls, "attribute_map", None) or {}).items() if new in KEYS}
        if renamed:
            found[name]["names"] = dict(sorted(renamed.items()))
        if text is not config:
            if text.model_type != name:
                found[name]["text"] = text.model_type
            continue
        if not all(attribute(config, key) for key in ("vocab_size", "num_hidden_layers", "num_attention_heads")):
            found[name] = {}
            continue
        try:
            found[name]["defaults"] = defaults(cls, config)
        except Exception as error:  # the number of heads alone makes no configuration
            print(f"{name}: no defaults: {error}")
        if (repeated := pattern(getattr(config, "layer_types", None))) is not None:
            found[name]["layers"] = repeated
    return found


def tokenizers() -> tuple[list[str], list[str]]:
    """Return the tokenizer classes, and the model types that have one, which need no remote code."""
    import transformers
    from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING_NAMES

    names = {
        name for entry in TOKENIZER_MAPPING_NAMES.values() for name in (entry if isinstance(entry, tuple) else [entry])
    }
    names |= {name for name in dir(transformers) if name.endswith(("Tokenizer", "TokenizerFast"))}
    return sorted({name.removesuffix("Fast") for name in names if name}), sorted(TOKENIZER_MAPPING_NAMES)


def mla_model_types() -> list[str]:
    """Return the model types whose attention vLLM runs as MLA; they stand in the code of `is_deepseek_mla` only."""
    from vllm.transformers_utils.model_arch_config_convertor import ModelArchConfigConvertorBase

    constants = ModelArchConfigConvertorBase.is_deepseek_mla.__code__.co_consts
    return sorted(max((c for c in constants if isinstance(c, tuple | frozenset)), key=len))


def main() -> None:
    """Read vLLM's registries and print the file."""
    from vllm.config.model import _FLOAT16_NOT_SUPPORTED_MODELS

    classes, with_tokenizer = tokenizers()
    types = model_types()
    data = {
        "version": importlib.metadata.version("vllm").split("+")[0],
        "transformers": importlib.metadata.version("transformers"),
        "float16_refused": sorted(_FLOAT16_NOT_SUPPORTED_MODELS),
        "mla": mla_model_types(),
        "architectures": architectures(),
        "tokenizer_classes": classes,
        "tokenizer_types": with_tokenizer,
        "other_model_types": [name for name, entry in types.items() if not entry],
        "model_types": {name: entry for name, entry in types.items() if entry},
    }
    lines = [f'"{key}": {json.dumps(value)}' for key, value in data.items() if not isinstance(value, dict)]
    for key, value in data.items():
        if isinstance(value, dict):
            entries = ",\n  ".join(f"{json.dumps(name)}: {json.dumps(entry)}" for name, entry in sorted(value.items()))
            lines.append(f'"{key}": {{\n  {entries}\n }}')
    text = "{\n " + ",\n ".join(lines) + "\n}\n"
    Path(__file__).with_name("vllm_models.json").write_text(text, encoding="utf-8")
    print(f"vllm {data['version']}: {len(data['architectures'])} architectures, {len(types)} model types")


if __name__ == "__main__":
    main()
