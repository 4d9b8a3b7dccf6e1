"""What lies on each device of a planned host: bars, cut into rows by server and into segments by purpose.

All sizes are bytes. A plan is taken as plain data, as ``ServingPlan.as_dict`` and JSON have it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any


class Part(StrEnum):
    """What a piece of a device's memory is for."""

    WEIGHTS = "weights"
    OVERHEAD = "overhead"
    KV_CACHE = "KV cache"
    SPARE = "spare"
    CONTEXT = "context"
    UNKNOWN = "unknown"
    HELD = "held by others"
    FREE = "free"


# What is left of a share by rounding alone, in bytes.
ROUNDING = 1 << 20
MEANINGS: Mapping[Part, str] = {
    Part.WEIGHTS: "the model's parameters",
    Part.OVERHEAD: "activations and CUDA graphs",
    Part.KV_CACHE: "the tokens of running requests",
    Part.SPARE: "granted to the server beyond the estimate of what it needs",
    Part.CONTEXT: "CUDA, NCCL and Python; beside the KV cache it lies outside of the share",
    Part.UNKNOWN: "granted to a server of whose model nothing is known",
    Part.HELD: "processes that are not of this project",
    Part.FREE: "no server may take it, or none needs it",
}


@dataclass(frozen=True)
class Segment:
    """A piece of a device's memory; ``error`` is how far the truth may be from ``size`` either way."""

    part: Part
    size: int
    error: int = 0


@dataclass(frozen=True)
class Row:
    """The segments of one server, of processes of others, or what is free.

    ``number`` is the server's position in the plan, by which its colour is chosen; None for what is no server.
    ``ranks`` is how many of its ranks are on the device.
    """

    label: str
    segments: tuple[Segment, ...]
    number: int | None = None
    share: float | None = None
    ranks: int = 1

    @property
    def size(self) -> int:
        """All of its bytes."""
        return sum(segment.size for segment in self.segments)

    def amount(self, part: Part) -> Segment:
        """Return the segment of one part, of size 0 where there is none."""
        return next((one for one in self.segments if one.part is part), Segment(part, 0))


@dataclass(frozen=True)
class Bar:
    """One device, or several on which the same lies.

    ``held`` is what processes of others have, ``limit`` what servers may take together beside it.
    """

    indices: tuple[int, ...]
    name: str
    memory: int
    held: int
    limit: int
    rows: tuple[Row, ...]

    @property
    def scale(self) -> int:
        """The bytes that the full length of the bar stands for; more than the memory only where an estimate is."""
        return max(self.memory, sum(row.size for row in self.rows), 1)

    @property
    def taken(self) -> int:
        """Bytes that servers and others hold."""
        return sum(row.size for row in self.rows if row.label != Part.FREE)


def bars(plan: Mapping[str, Any]) -> tuple[Bar, ...]:
    """Return a bar for each device of a plan, in their order; devices on which the same lies share one."""
    merged: dict[Bar, list[int]] = {}
    for device in plan["devices"]:
        bar = _bar(plan, device)
        merged.setdefault(replace(bar, indices=()), []).append(device["index"])
    return tuple(replace(bar, indices=tuple(numbers)) for bar, numbers in merged.items())


def _bar(plan: Mapping[str, Any], device: Mapping[str, Any]) -> Bar:
    memory, held = device["memory_bytes"], device["held_bytes"]
    rows = [
        _row(server, number, ranks, memory)
        for number, server in enumerate(plan["servers"])
        if (ranks := _ranks_on(plan, server, device["index"]))
    ]
    if held:
        rows.insert(0, Row(Part.HELD, (Segment(Part.HELD, held),)))
    free = memory - sum(row.size for row in rows)
    if free > 0:
        rows.append(Row(Part.FREE, (Segment(Part.FREE, free),)))
    return Bar((device["index"],), device["name"], memory, held, device["limit_bytes"], tuple(rows))


def _ranks_on(plan: Mapping[str, Any], server: Mapping[str, Any], index: int) -> int:
    """Return how many ranks of a server are on a device; on processors all of them are in the main memory."""
    return int(server["tensor_parallel_size"]) if plan["backend"] == "cpu" else list(server["gpus"]).count(index)


def _row(server: Mapping[str, Any], number: int, ranks: int, device_memory: int) -> Row:
    share, memory = server["share"], server["memory"]
    granted = int(device_memory * share) if share is not None else 0
    if memory is None:
        segments = [Segment(Part.UNKNOWN, granted)]
    else:
        *paid, context = _known(memory, ranks, of_a_share=share is not None)
        # A KV cache fills the share, and the context comes on top; without one the share is made to pay for it, too.
        taken = sum(one.size for one in paid) + (0 if memory["kv_cache_bytes"] else context.size)
        spare = granted - taken
        segments = [*paid, Segment(Part.SPARE, spare if spare > ROUNDING else 0), context]
    return Row(server["name"], tuple(one for one in segments if one.size), number, share, ranks)


def _known(memory: Mapping[str, Any], ranks: int, of_a_share: bool) -> list[Segment]:
    def segment(part: Part, *keys: str) -> Segment:
        sizes, errors = zip(*(memory[key] for key in keys), strict=True)
        return Segment(part, ranks * sum(sizes), ranks * sum(errors))

    weights = segment(Part.WEIGHTS, "weights")
    overhead = segment(Part.OVERHEAD, "activations", "graphs")
    cache = Segment(Part.KV_CACHE, ranks * memory["kv_cache_bytes"], ranks * cache_error(memory, of_a_share))
    return [weights, overhead, cache, segment(Part.CONTEXT, "context")]


def cache_error(memory: Mapping[str, Any], of_a_share: bool) -> int:
    """Return how far the KV cache of a rank may be off, in bytes.

    vLLM gives it what is left of the share, so it is off by what the rest is off by. On processors its size is set.
    """
    return sum(memory[key][1] for key in ("weights", "activations", "graphs")) if of_a_share else 0
