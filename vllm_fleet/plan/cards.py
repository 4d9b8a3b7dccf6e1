"""Hosts that nobody has yet: what a plan would be on ``4xL40S``."""

from __future__ import annotations

import re
from itertools import combinations

from vllm_fleet.plan.card_table import RESERVED_BYTES, Card, card_called, cards, similar
from vllm_fleet.plan.host import Device, Host
from vllm_fleet.plan.problems import did_you_mean

MOST_GPUS = 16
# What servers with GPUs are commonly sold with: main memory twice that of the GPUs, and cores for each GPU's process.
MAIN_MEMORY_FACTOR = 2
CPUS_PER_GPU = 16
_PART = re.compile(r"(?:(?P<count>\d{1,3})\s*[x×*]\s*)?(?P<name>.*\S)\s*", re.IGNORECASE)


def hypothetical(spec: str, name: str = "what-if", address: str = "127.0.0.1") -> Host:
    """Return a host with the GPUs of a text such as ``4xL40S`` or ``2xH100-80GB + RTX 4090``.

    All GPUs sit at one NUMA node; those of a board with NVLink are joined by it, the rest through PCI Express. The
    host is `assumed`: sizes are those of the table of cards, less what a driver keeps.

    Raises:
        ValueError: a sentence for the person who wrote the text.
    """
    chosen = [card for part in spec.split("+") for card in _part(part, spec)]
    if len(chosen) > MOST_GPUS:
        raise ValueError(f"{spec!r} names {len(chosen)} GPUs; a host has at most {MOST_GPUS}")
    gpus = tuple(
        Device(
            index=index,
            name=card.name,
            memory_bytes=card.memory_bytes - RESERVED_BYTES,
            compute_capability=card.compute_capability,
            numa_node=0,
            visible_as=str(index),
            lock=f"gpu-{index}",
        )
        for index, card in enumerate(chosen)
    )
    links = {(a, b): _link(chosen[a], chosen[b]) for a, b in combinations(range(len(chosen)), 2)}
    memory = sum(card.memory_bytes for card in chosen) * MAIN_MEMORY_FACTOR
    return Host(name, address, tuple(range(CPUS_PER_GPU * len(chosen))), memory, gpus, assumed=True, links=links)


def _part(part: str, spec: str) -> list[Card]:
    match = _PART.fullmatch(part.strip())
    if match is None:
        raise ValueError(f"expected GPUs such as 4xL40S or 2xH100-80GB + 2xL4, found {spec!r}")
    count = int(match["count"] or 1)
    if count == 0:
        raise ValueError(f"{part.strip()!r}: expected at least one GPU")
    card = card_called(match["name"])
    if card is None:
        name = match["name"]
        several = similar(name)
        known = [alias for one in cards() for alias in (one.name, *one.called)]
        hint = f"; say which: {', '.join(several)}" if several else did_you_mean(name, known)
        raise ValueError(f"no GPU is known by the name {name!r}{hint or _every()}")
    return [card] * count


def _link(first: Card, second: Card) -> str:
    return first.nvlink if first.nvlink and first == second else "PHB"


def _every() -> str:
    return f"; known are {', '.join(card.called[0] for card in cards())}"
