"""GPUs that can be bought, by the names people and drivers give them: ``cards.json``.

``memory_mib`` there is what nvidia-smi calls total on such a card, ``nvlink`` what joins all cards of a board where
they are sold on boards only (cards that a bridge may join have none). Products of one name that come with different
memory (GeForce RTX 3060, 3080, 4060 Ti, 5060 Ti) are left out: nothing can be said of them before a driver answers.
"""

from __future__ import annotations

import functools
import json
import re
from dataclasses import dataclass
from pathlib import Path

DATA = Path(__file__).with_name("cards.json")
# What the driver keeps of a card's memory and CUDA does not count: 274 to 767 MiB in the answers of nvidia-smi under
# tests/hosts. Where only the kind of a card is known the largest is taken, so that what fits on paper fits later.
RESERVED_BYTES = 768 << 20
_COMMON = re.compile(r"nvidia|geforce|tesla|generation|[^a-z0-9]")


@dataclass(frozen=True)
class Card:
    """A product: the driver's name for it, its memory as nvidia-smi tells it, and the names people use."""

    name: str
    memory_bytes: int
    compute_capability: tuple[int, int]
    nvlink: str | None
    called: tuple[str, ...]


@functools.cache
def cards() -> tuple[Card, ...]:
    """Return the table that ships with the project."""
    return tuple(
        Card(
            name=row["name"],
            memory_bytes=row["memory_mib"] << 20,
            compute_capability=capability(row["compute_capability"]) or (0, 0),
            nvlink=row["nvlink"],
            called=tuple(row["called"]),
        )
        for row in json.loads(DATA.read_text(encoding="utf-8"))
    )


@functools.cache
def _by_name() -> dict[str, Card]:
    return {_plain(name): card for card in cards() for name in (card.name, *card.called)}


def card_called(name: str | None) -> Card | None:
    """Return the card of a name such as H100-80GB, rtx 4090 or NVIDIA L40S; None where it is not in the table."""
    return _by_name().get(_plain(name or ""))


def similar(name: str) -> list[str]:
    """Return what the cards are called whose name contains what somebody wrote, such as A100 for four of them."""
    return [card.called[0] for card in cards() if _plain(name) and _plain(name) in _plain(card.name)]


def capability(text: str | None) -> tuple[int, int] | None:
    """Return a compute capability such as "9.0" as numbers, so that 10.0 is more than 9.0."""
    major, _, minor = (text or "").partition(".")
    return (int(major), int(minor)) if major.isdecimal() and minor.isdecimal() else None


def _plain(name: str) -> str:
    """Return what is left of a name without maker, brand, spaces and hyphens."""
    return _COMMON.sub("", name.lower())
