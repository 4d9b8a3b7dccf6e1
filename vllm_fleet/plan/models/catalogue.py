"""What the pinned vLLM and its Transformers know of models, as data.

`scripts/make-vllm-models` writes ``vllm_models.json`` from an installed vLLM.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DATA = Path(__file__).with_name("vllm_models.json")


@dataclass(frozen=True)
class ModelType:
    """What the configuration class of a ``model_type`` adds to config.json.

    ``defaults`` are values for keys that are not there, ``names`` other names for keys, ``text`` the model type of the
    language part that a multimodal model has by default. ``layers`` repeats over the layers: s is attention with a
    sliding window, c chunked, f full, l linear; it is None where all are alike.
    """

    defaults: Mapping[str, Any]
    names: Mapping[str, str]
    text: str | None = None
    layers: str | None = None


@dataclass(frozen=True)
class Catalogue:
    """The models of one vLLM version.

    ``architectures`` maps names to traits: ``generate``, ``pooling``, ``scores`` (answers /rerank with a score of its
    own), ``encoder`` (keeps no KV cache), ``hybrid`` (keeps a state beside, or in place of, a KV cache) and
    ``multimodal``. Known types and tokenizer classes need no code of the model's repository.
    """

    version: str
    transformers: str
    architectures: Mapping[str, frozenset[str]]
    model_types: Mapping[str, ModelType]
    tokenizer_classes: frozenset[str]
    tokenizer_types: frozenset[str]
    mla: frozenset[str]
    float16_refused: frozenset[str]


@functools.cache
def catalogue() -> Catalogue:
    """Read the catalogue that ships with the project."""
    data = json.loads(DATA.read_text(encoding="utf-8"))
    types = {
        name: ModelType(entry.get("defaults", {}), entry.get("names", {}), entry.get("text"), entry.get("layers"))
        for name, entry in data["model_types"].items()
    }
    return Catalogue(
        version=data["version"],
        transformers=data["transformers"],
        architectures={name: frozenset(traits) for name, traits in data["architectures"].items()},
        model_types={**{name: ModelType({}, {}) for name in data["other_model_types"]}, **types},
        tokenizer_classes=frozenset(data["tokenizer_classes"]),
        tokenizer_types=frozenset(data["tokenizer_types"]),
        mla=frozenset(data["mla"]),
        float16_refused=frozenset(data["float16_refused"]),
    )
