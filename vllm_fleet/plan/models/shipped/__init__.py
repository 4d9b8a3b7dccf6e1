"""Descriptions of well-known models, for plans without a network and before a model is fetched.

Each file holds the published config.json as far as it says what a model needs, and what is published of its weights:
``parameters`` and, where it is published to the byte, ``weight_bytes`` are those of the tensors that vLLM loads.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

DIRECTORY = Path(__file__).parent


@functools.cache
def shipped(model: str) -> Mapping[str, Any] | None:
    """Return the description of a model by its id on the hub, None where there is none."""
    return _all().get(model)


def names() -> list[str]:
    """Return the ids of all models that are known."""
    return sorted(_all())


@functools.cache
def _all() -> dict[str, Mapping[str, Any]]:
    found: dict[str, Mapping[str, Any]] = {}
    for path in sorted(DIRECTORY.glob("*.json")):
        entry = json.loads(path.read_text(encoding="utf-8"))
        for model in entry.pop("models"):
            found[model] = {"source": "shipped", "weights": [], **entry}
    return found
