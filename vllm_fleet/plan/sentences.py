"""Sizes, numbers and lists in the sentences of problems."""

from __future__ import annotations

from collections.abc import Sequence

GIB = 1 << 30


def gib(size: int) -> str:
    """Return bytes for a sentence: ``23.4 GiB``."""
    return f"{size / GIB:.1f} GiB"


def counted(number: int, thing: str) -> str:
    """Return a number of things: ``1 host``, ``1,200 hosts``."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def listed(things: Sequence[object], last: str = "and") -> str:
    """Return a list: ``a, b and c``."""
    words = [str(thing) for thing in things]
    return f" {last} ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))
