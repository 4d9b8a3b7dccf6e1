"""What vLLM's quantization methods need of a GPU, as data. `scripts/make-vllm-quantization` writes it."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

DATA = Path(__file__).with_name("vllm_quantization.json")


@dataclass(frozen=True)
class Method:
    """A quantization method: the least compute capability, and the dtypes a server may have with it.

    vLLM refuses a ``deprecated`` one unless it is given --allow-deprecated-quantization.
    """

    capability: tuple[int, int]
    dtypes: tuple[str, ...]
    deprecated: bool


@functools.cache
def methods() -> Mapping[str, Method]:
    """Return the methods of the pinned vLLM by their names, those of config.json and of --quantization alike."""
    rows = json.loads(DATA.read_text(encoding="utf-8"))["methods"]
    return {
        name: Method(divmod(row["capability"], 10), tuple(row["dtypes"]), row["deprecated"])
        for name, row in rows.items()
    }
