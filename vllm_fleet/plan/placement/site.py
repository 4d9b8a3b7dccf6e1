"""The devices of one host, with what limits and what joins them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from vllm_fleet.plan.host import Device
from vllm_fleet.plan.placement.task import Limits
from vllm_fleet.plan.placement.topology import Links, Topology


@dataclass(frozen=True)
class Site:
    """A host as servers are placed on it; a position is a device's place in ``devices``, which are in index order.

    ``limit`` and ``alone`` are fractions of a device: what several servers may take together, and what one may take
    whose share the plan chooses.
    """

    devices: tuple[Device, ...]
    links: Links | None
    limit: float
    alone: float
    limits: Limits
    topology: Topology

    @classmethod
    def of(cls, devices: Sequence[Device], links: Links | None, limit: float, alone: float) -> Site:
        """Return the site of these devices."""
        ordered = tuple(sorted(devices, key=lambda device: device.index))
        return cls(ordered, links, limit, alone, Limits.of(ordered, limit, alone), Topology(ordered, links))

    def positions(self, indices: Sequence[int]) -> tuple[int, ...] | None:
        """Return the positions of devices by their indices, None if one is not there."""
        known = {device.index: position for position, device in enumerate(self.devices)}
        return tuple(known[index] for index in indices) if set(indices) <= known.keys() else None

    def indices(self, positions: Sequence[int]) -> tuple[int, ...]:
        """Return the indices of devices by their positions."""
        return tuple(self.devices[position].index for position in positions)

    def with_count(self, count: int) -> Site:
        """Return the site with so many devices; the new ones are empty, of the kind of the last one."""
        last = self.devices[-1]
        new = [
            replace(last, index=last.index + number, held_bytes=0) for number in range(1, count - len(self.devices) + 1)
        ]
        return Site.of((*self.devices, *new), self.links, self.limit, self.alone)
