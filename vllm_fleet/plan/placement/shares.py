"""The share of its devices that each placed server may take.

A declared share is kept. A server without a KV cache gets what it needs, which is all that does it good. Those with one
divide the rest of their devices: each gets what it needs, and then all grow by the same amount until a device of theirs
is full. A running server keeps its share as long as that is enough and leaves room for the others: another one would
mean a start.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vllm_fleet.plan.placement.parts import STEP, floored
from vllm_fleet.plan.placement.task import Group, Limits, Task


def divide(tasks: Sequence[Task], placed: Mapping[str, Group], limits: Limits) -> dict[str, int]:
    """Return the share of each task, in parts.

    Args:
        tasks: all that are placed, so that the least they need fits.
        placed: the positions of each task's devices.
        limits: of the devices.
    """
    least = {task.name: task.amount(placed[task.name]) for task in tasks}
    kept = _kept(tasks, placed, limits, least)
    growing = [
        task for task in tasks if task.request.elastic and not (task.declared or task.sealed or task.name in kept)
    ]
    grown = _grown(growing, placed, limits, least | kept)
    return least | kept | {task.name: max(floored(grown[task.name]), least[task.name]) for task in growing}


def _kept(tasks: Sequence[Task], placed: Mapping[str, Group], limits: Limits, least: dict[str, int]) -> dict[str, int]:
    """Return the shares of those that run and can go on with theirs; on a full device LLMs give way first."""
    kept = {task.name: task.running for task in tasks if not task.declared and least[task.name] <= task.running}
    pending = list(range(len(limits.together)))
    while pending:
        position = pending.pop()
        here = [task for task in tasks if position in placed[task.name]]
        limit = limits.together[position]
        if all(task.name in kept for task in here):
            # What other processes hold may change a little without a start.
            limit += STEP
        if sum((least | kept)[task.name] for task in here) <= limit:
            continue
        give_way = [task for task in here if task.name in kept]
        for task in [task for task in give_way if task.request.elastic] or give_way:
            del kept[task.name]
            pending += placed[task.name]
    return kept


def _grown(
    growing: Sequence[Task], placed: Mapping[str, Group], limits: Limits, shares: Mapping[str, int]
) -> dict[str, int]:
    """Return all shares after letting tasks grow by the same amount until a device of theirs is full."""
    grown = dict(shares)
    while growing:
        rooms = {}
        for task in growing:
            group = placed[task.name]
            most = min([limits.alone[position] for position in group]) - grown[task.name]
            rooms[task.name] = min([most, *[_room(position, growing, placed, limits, grown) for position in group]])
        step = max(min(rooms.values()), 0)
        for task in growing:
            grown[task.name] += step
        growing = [task for task in growing if rooms[task.name] > step]
    return grown


def _room(
    position: int, growing: Sequence[Task], placed: Mapping[str, Group], limits: Limits, shares: Mapping[str, int]
) -> int:
    """Return how much each of those that grow on a device can still get of it."""
    taken = sum(shares[name] for name, group in placed.items() if position in group)
    return (limits.together[position] - taken) // sum(position in placed[task.name] for task in growing)
