"""What the plan needs to know of a host, as the module gpu_host_facts reports it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Device:
    """A GPU, or an instance of one (MIG), or the main memory of a host without GPUs, as servers are placed on it.

    ``index`` counts in PCI bus order. ``visible_as`` is what CUDA_VISIBLE_DEVICES takes for it: the index, or the UUID
    of a MIG instance. ``memory_bytes`` is all that CUDA calls total; ``held_bytes`` of it belong to processes that are
    not of this project. ``compute_capability`` is (9, 0) for 9.0. ``lock`` names the lock of those that start on it.
    """

    index: int
    name: str
    memory_bytes: int
    compute_capability: tuple[int, int] | None = None
    numa_node: int | None = None
    visible_as: str = ""
    lock: str = ""
    mig: bool = False
    held_bytes: int = 0


@dataclass(frozen=True)
class Host:
    """One host: its name in the inventory, the address clients reach it by, its CPUs and GPUs.

    ``gpus`` is None where nothing can be said about GPUs yet. ``assumed`` says that no driver has answered and the
    GPUs are those of the PCI bus with the memory their kind has. ``links`` joins pairs of device indices (the smaller
    first) to what connects them: NV18, PIX, PXB, PHB, NODE or SYS.
    """

    name: str
    address: str
    cpus: tuple[int, ...]
    memory_bytes: int
    gpus: tuple[Device, ...] | None = None
    assumed: bool = False
    links: Mapping[tuple[int, int], str] | None = None

    @property
    def gpu_count(self) -> int | None:
        """The number of GPUs, None where that is not known."""
        return None if self.gpus is None else len(self.gpus)

    @classmethod
    def from_facts(cls, name: str, address: str, facts: Mapping[str, Any]) -> Host:
        """Build a host from the ``gpu_host`` facts of one managed host."""
        gpus = facts.get("gpus")
        return cls(
            name=name,
            address=address,
            cpus=tuple(facts["cpus"]),
            memory_bytes=int(facts["memory_total_bytes"]),
            gpus=None if gpus is None else tuple(_device(gpu) for gpu in gpus),
        )


def _device(gpu: Mapping[str, Any]) -> Device:
    index = int(gpu["index"])
    return Device(
        index=index,
        name=str(gpu.get("name") or "GPU"),
        memory_bytes=int(gpu.get("memory_total_mib") or 0) << 20,
        visible_as=str(index),
        lock=f"gpu-{index}",
    )
