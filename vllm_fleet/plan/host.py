"""What the plan needs to know of a host, as the module gpu_host_facts reports it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

from vllm_fleet.plan.card_table import RESERVED_BYTES, capability, card_called

MIB = 1 << 20
OWN_UNITS = "vllm-"  # names begin so
# Chips that share the main memory of the host, and have none of their own that nvidia-smi could tell of: GB10.
INTEGRATED = {(12, 1)}


@dataclass(frozen=True)
class Device:
    """A GPU, or an instance of one (MIG), or the main memory of a host without GPUs, as servers are placed on it.

    ``index`` counts in PCI bus order; instances of GPUs count on after the last GPU. ``visible_as`` is what
    CUDA_VISIBLE_DEVICES takes for it: the index, or a UUID where the host has instances. ``memory_bytes`` is all that
    CUDA calls total; ``held_bytes`` of it belong to processes that are not of this project. ``compute_capability`` is
    (9, 0) for 9.0. ``lock`` names the lock of those that start on it, which is that of the GPU for all its instances.
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
    first) to what connects them: NV18, PIX, PXB, PHB, NODE or SYS; it is None where nobody has been asked.
    """

    name: str
    address: str
    cpus: tuple[int, ...]
    memory_bytes: int
    gpus: tuple[Device, ...] | None = None
    assumed: bool = False
    links: Mapping[tuple[int, int], str] | None = None

    def devices(self, backend: str) -> tuple[Device, ...]:
        """Return what servers are placed on: the GPUs, or for the backend cpu the main memory as one device."""
        if backend == "cpu":
            return (Device(0, "main memory", self.memory_bytes, lock="cpu"),)
        return self.gpus or ()

    def with_gpus(self, count: int) -> Host:
        """Return the host with another number of the GPUs it has: the first ones, or more of the kind of the last.

        What is added is free, sits at the last GPU's NUMA node, and is linked as most of the GPUs are.
        """
        gpus = (self.gpus or ())[:count]
        if self.gpus:
            pattern = next((gpu for gpu in reversed(self.gpus) if not gpu.mig), self.gpus[-1])
            first = max(gpu.index for gpu in self.gpus) + 1
            more = range(first, first + count - len(gpus))
            gpus += tuple(replace(pattern, index=n, visible_as=str(n), lock=f"gpu-{n}", held_bytes=0) for n in more)
        if self.links is None:
            return replace(self, gpus=gpus)
        usual = Counter(self.links.values()).most_common(1)
        whole = sorted(gpu.index for gpu in gpus if not gpu.mig)
        kinds = {pair: self.links.get(pair) or (usual[0][0] if usual else None) for pair in combinations(whole, 2)}
        return replace(self, gpus=gpus, links={pair: kind for pair, kind in kinds.items() if kind is not None})

    @classmethod
    def from_facts(cls, name: str, address: str, facts: Mapping[str, Any]) -> Host:
        """Build a host from the ``gpu_host`` facts of one managed host."""
        memory_bytes = int(facts.get("memory_total_bytes") or 0)
        answered = facts.get("gpus") is not None
        gpus = _gpus(facts, memory_bytes) if answered else _assumed(facts, memory_bytes)
        whole = {device.index for device in gpus or () if not device.mig}
        links = {(link["a"], link["b"]): link["type"] for link in facts.get("links") or []}
        return cls(
            name=name,
            address=address,
            cpus=tuple(facts["cpus"]),
            memory_bytes=memory_bytes,
            gpus=gpus,
            assumed=not answered,
            links={pair: kind for pair, kind in links.items() if whole.issuperset(pair)} if answered else None,
        )


def _gpus(facts: Mapping[str, Any], host_bytes: int) -> tuple[Device, ...]:
    """Return the GPUs the driver shows; one that is divided counts by its instances alone."""
    gpus = facts.get("gpus") or []
    nodes = {gpu["address"]: gpu.get("numa_node") for gpu in facts.get("pci_gpus") or []}
    # CUDA counts otherwise where there are instances (NVIDIA's MIG user guide, "CUDA Device Enumeration").
    divided = any(gpu.get("mig") for gpu in gpus)
    whole, instances = [], []
    for gpu in gpus:
        chip = capability(gpu.get("compute_capability"))
        device = Device(
            index=int(gpu["index"]),
            name=str(gpu.get("name") or "GPU"),
            memory_bytes=_total(gpu) or _by_kind(gpu.get("name"), chip, host_bytes) or 0,
            compute_capability=chip,
            numa_node=nodes.get(gpu.get("pci_address")),
            visible_as=str((divided and gpu.get("uuid")) or gpu["index"]),
            lock=f"gpu-{gpu['index']}",
            held_bytes=_held(gpu.get("processes")),
        )
        if gpu.get("mig"):
            instances += _instances(device, gpu)
        else:
            whole.append(device)
    counted = [replace(device, index=len(gpus) + number) for number, device in enumerate(instances)]
    return (*whole, *counted)


def _instances(whole: Device, gpu: Mapping[str, Any]) -> list[Device]:
    """Return the instances of a GPU.

    Of the compute instances that share the memory of one GPU instance only the first is one.
    """
    firsts: dict[object, Mapping[str, Any]] = {}
    for instance in gpu.get("mig_devices") or []:
        firsts.setdefault(instance.get("gpu_instance"), instance)
    return [
        replace(
            whole,
            name=f"{whole.name} MIG {instance.get('profile') or ''}".rstrip(),
            memory_bytes=_total(instance),
            visible_as=str(instance["uuid"]),
            mig=True,
            held_bytes=_held(one for one in gpu.get("processes") or [] if one.get("gpu_instance") == number),
        )
        for number, instance in firsts.items()
        if instance.get("uuid")
    ]


def _assumed(facts: Mapping[str, Any], host_bytes: int) -> tuple[Device, ...] | None:
    """Return the GPUs of the PCI bus as the driver will show them, None where the memory of one is not known."""
    found = facts.get("pci_gpus")
    if found is None:
        return None
    # What a virtual machine owns, or what fell off the bus, no driver will show.
    usable = [gpu for gpu in found if gpu.get("driver") != "vfio-pci" and gpu.get("responds") is not False]
    devices = []
    for index, gpu in enumerate(sorted(usable, key=lambda gpu: str(gpu["address"]))):
        chip = capability(gpu.get("compute_capability"))
        memory_bytes = _by_kind(gpu.get("name"), chip, host_bytes)
        if memory_bytes is None:
            return None
        devices.append(
            Device(
                index=index,
                name=str(gpu.get("name") or "GPU"),
                memory_bytes=memory_bytes,
                compute_capability=chip,
                numa_node=gpu.get("numa_node"),
                visible_as=str(index),
                lock=f"gpu-{index}",
            )
        )
    return tuple(devices)


def _by_kind(name: str | None, chip: tuple[int, int] | None, host_bytes: int) -> int | None:
    """Return the memory that a GPU has by its kind, None where that is not known."""
    card = card_called(name)
    if card is not None:
        return card.memory_bytes - RESERVED_BYTES
    return host_bytes if chip in INTEGRATED else None


def _total(memory: Mapping[str, Any]) -> int:
    """Return what CUDA calls total, in bytes: what is used and what is free, without what the driver keeps.

    On a real H100 and H200 this is cuMemGetInfo's total to within the MiB that nvidia-smi rounds to.
    """
    used, free = memory.get("memory_used_mib"), memory.get("memory_free_mib")
    total = memory.get("memory_total_mib") if used is None or free is None else used + free
    return int(total or 0) * MIB


def _held(processes: Iterable[Mapping[str, Any]] | None) -> int:
    foreign = (one for one in processes or () if not (one.get("unit") or "").startswith(OWN_UNITS))
    return sum(one.get("used_mib") or 0 for one in foreign) * MIB
