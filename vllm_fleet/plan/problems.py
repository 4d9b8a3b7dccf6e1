"""Reasons against a declaration, and doubts about one, each one sentence for an operator."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Change:
    """One change that removes a problem: set ``key`` of a server to ``value``; None leaves the key out.

    ``server`` is None for a change of the host; ``gpus`` is then a number of GPUs of the kind it has.
    """

    server: str | None
    key: str
    value: Any


@dataclass(frozen=True)
class Problem:
    """One mistake or doubt: where it stands, what was found, and what would be right.

    ``severity`` is ``error`` (there is no plan) or ``warning``. ``code`` is one of vllm_fleet.preflight.codes.
    ``remedies`` are alternatives in the order of preference, each a set of changes that together remove the problem;
    ``message`` says the same in words.
    """

    where: str
    message: str
    code: str = "declaration"
    severity: str = "error"
    remedies: tuple[tuple[Change, ...], ...] = ()

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean X?"`` for the known word nearest to ``word``, or an empty string."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.7)
    return f"; did you mean {near[0]}?" if near else ""
