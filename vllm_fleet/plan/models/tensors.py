"""The tensors of a model, those that are alike in one entry."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vllm_fleet.plan.models.config import UnreadableModel

# Bytes of one element, by the names safetensors gives to dtypes.
ITEM_BYTES = {
    "BOOL": 1,
    "U8": 1,
    "I8": 1,
    "F8_E4M3": 1,
    "F8_E5M2": 1,
    "F8_E8M0": 1,
    "I16": 2,
    "U16": 2,
    "F16": 2,
    "BF16": 2,
    "I32": 4,
    "U32": 4,
    "F32": 4,
    "I64": 8,
    "U64": 8,
    "F64": 8,
}
# What config.json and vLLM call them.
DTYPES = {"F16": "float16", "BF16": "bfloat16", "F32": "float32"}
STORED = {name: stored for stored, name in DTYPES.items()}

# How the names of the language model's layers begin; a vision part's do otherwise.
LAYERS = tuple(f"{prefix}layers.#." for prefix in ("", "model.", "language_model.model.", "model.language_model."))


@dataclass(frozen=True)
class Tensor:
    """``count`` tensors of one shape and dtype, in whose name ``#`` stands for each number."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    count: int = 1

    @property
    def elements(self) -> int:
        """Elements of them all as they are stored."""
        return self.count * math.prod(self.shape)

    @property
    def bytes(self) -> int:
        """Bytes of them all as they are stored (4-bit dtypes lie two in a byte)."""
        return self.elements // 2 if self.dtype == "F4" else self.elements * ITEM_BYTES[self.dtype]


def described(entries: object, layers: int) -> list[Tensor]:
    """Return the tensors of a description's ``weights`` as far as vLLM loads them.

    Layers behind the last are those of multi-token prediction (DeepSeek-V3), which vLLM leaves out.

    Args:
        entries: mappings with name, shape, dtype, count and ``layers``, the last a list of [first, last, tensors per
            layer] where the name holds the number of a layer.
        layers: the number of layers.

    Raises:
        UnreadableModel: an entry makes no sense.
    """
    if not isinstance(entries, list):
        raise UnreadableModel("the list of its tensors is no list")
    found = []
    for entry in entries:
        try:
            tensor = Tensor(entry["name"], tuple(entry["shape"]), entry["dtype"], _loaded(entry, layers))
            if tensor.bytes:
                found.append(tensor)
        except (KeyError, TypeError, ValueError) as error:
            raise UnreadableModel(f"a tensor of it cannot be understood: {entry!r}") from error
    return found


def _loaded(entry: Mapping[str, Any], layers: int) -> int:
    runs = entry.get("layers")
    if runs is None or not entry["name"].startswith(LAYERS):
        return int(entry["count"])
    return sum(max(0, min(last, layers - 1) - first + 1) * each for first, last, each in runs)
