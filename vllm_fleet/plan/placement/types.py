"""What is to be placed, and where it was placed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Request:
    """One server to place.

    ``ranks`` is the number of devices it needs. ``least`` is the number of bytes it needs on each, None where nothing
    is known of its model. ``elastic`` says that more memory does it good (a KV cache). ``devices`` are those declared,
    ``share`` the declared fraction of each; ``current_devices`` and ``current_share`` are those it runs with now.
    """

    name: str
    kind: str
    ranks: int
    least: int | None
    elastic: bool
    devices: tuple[int, ...] | None = None
    share: float | None = None
    current_devices: tuple[int, ...] | None = None
    current_share: float | None = None


@dataclass(frozen=True)
class Placement:
    """Devices (in rank order) of each server, and the fraction of each device's total memory it may take."""

    devices: Mapping[str, tuple[int, ...]]
    shares: Mapping[str, float]
