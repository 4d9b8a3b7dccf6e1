"""Vectors and scores recorded from a deployment, to compare a later one with: an upgrade must not change them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vllm_fleet.errors import FleetError


@dataclass(frozen=True)
class Golden:
    """What was recorded, by the name a model is served under."""

    vectors: Mapping[str, Sequence[tuple[str, Sequence[float]]]]
    scores: Mapping[str, Sequence[tuple[str, Sequence[str], Sequence[float]]]]
    id: str = "golden"  # as of a question
    skip: str = ""


def read(file: Path) -> Golden:
    """Read what was written with `as_json`.

    Raises:
        FleetError: the file cannot be read or is of another form.
    """
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
        vectors = {model: [(text, _numbers(one)) for text, one in found] for model, found in data["vectors"].items()}
        scores = {
            model: [(q, list(d), _numbers(one)) for q, d, one in found] for model, found in data["scores"].items()
        }
    except OSError as error:
        raise FleetError(f"The golden vectors cannot be read from {file}: {error.strerror or error}.") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise FleetError(f"{file}: this is not what --record-golden writes.") from None
    return Golden(vectors, scores)


def as_json(golden: Golden) -> str:
    """The text of the file."""
    return json.dumps({"vectors": golden.vectors, "scores": golden.scores}, ensure_ascii=False) + "\n"


def _numbers(values: Any) -> list[float]:
    return [float(one) for one in values]
