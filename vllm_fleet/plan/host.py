"""What the plan needs to know of a host, as the module gpu_host_facts reports it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Host:
    """One host: its name in the inventory, the address clients reach it by, its CPUs and GPUs.

    ``gpu_count`` is None where no driver answers, so that nothing can be said about GPUs yet.
    """

    name: str
    address: str
    cpus: tuple[int, ...]
    memory_bytes: int
    gpu_count: int | None = None

    @classmethod
    def from_facts(cls, name: str, address: str, facts: Mapping[str, Any]) -> Host:
        """Build a host from the ``gpu_host`` facts of one managed host."""
        gpus = facts.get("gpus")
        return cls(
            name=name,
            address=address,
            cpus=tuple(facts["cpus"]),
            memory_bytes=int(facts["memory_total_bytes"]),
            gpu_count=None if gpus is None else len(gpus),
        )
