"""NVSwitch, NVLink and PCIe: how the GPUs of a host reach each other."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

from vllm_fleet.preflight.findings import Finding, error, repaired, warning
from vllm_fleet.preflight.wanted import Facts, Wanted, driver_present, items, look, names, version

NVLINK_5 = (10, 0)  # compute capability from which on the switches sit behind the InfiniBand stack


def findings(facts: Facts, wanted: Wanted) -> Iterator[Finding]:
    """Yield what keeps the GPUs from reaching each other, or from being used at all."""
    manager = list(_manager(facts, wanted)) if items(facts, "nvswitches") and driver_present(facts) else []
    yield from manager
    # Without its manager no fabric comes up; one cause is one finding.
    if not manager:
        yield from _state(facts)
    yield from _iommu(facts)
    yield from _links(facts, wanted)
    yield from _numa(facts)


def _manager(facts: Facts, wanted: Wanted) -> Iterator[Finding]:
    fabric = look(facts, "nvidia", "fabric_manager")
    if fabric is None:
        return
    found = fabric.get("version")
    driver = look(facts, "nvidia", "userspace_version") or look(facts, "nvidia", "module", "version")
    if found is None:
        yield repaired(
            wanted.driver_managed,
            "fabric-manager-missing",
            f"{len(items(facts, 'nvswitches'))} NVSwitches, but no Fabric Manager: CUDA will answer error 802. "
            + ("This run installs it." if wanted.driver_managed else f"Install nvidia-fabricmanager {driver}."),
        )
    elif driver and version(found) != version(driver):
        yield repaired(
            wanted.driver_managed,
            "fabric-manager-mismatch",
            f"Fabric Manager is {found}, the driver {driver}; they must be equal to the last digit. "
            + (
                "This run makes them so."
                if wanted.driver_managed
                else f"Install nvidia-fabricmanager {driver} and hold both."
            ),
        )
    elif fabric.get("active") is False:
        said = f"; it said last: {str(fabric['log']).strip().rstrip('.')}" if fabric.get("log") else ""
        yield error(
            "fabric-manager-down",
            f"Fabric Manager {found} does not run{said}. Run: systemctl enable --now nvidia-fabricmanager, and read "
            "journalctl -u nvidia-fabricmanager.",
        )


def _state(facts: Facts) -> Iterator[Finding]:
    waiting: dict[str, list[int]] = {}
    for gpu in items(facts, "gpus"):
        state, status = gpu.get("fabric_state"), gpu.get("fabric_status")
        if state is not None and (state != "Completed" or status not in (None, "Success")):
            said = f"'{state}'{f' ({status})' if status else ''}"
            waiting.setdefault(said, []).append(gpu["index"])
    nvlink_5 = any(version(gpu.get("compute_capability")) >= NVLINK_5 for gpu in items(facts, "gpus"))
    for said, gpus in waiting.items():
        yield error(
            "fabric-not-ready",
            f"GPU {names(gpus, limit=16)}: the fabric's state is {said}, and CUDA will answer error 802 until it is "
            "Completed. Read journalctl -u nvidia-fabricmanager."
            + (" On NVLink 5 it also needs nvlsm and the kernel modules mlx5_ib and ib_umad." if nvlink_5 else ""),
        )


def _iommu(facts: Facts) -> Iterator[Finding]:
    translating = look(facts, "iommu", "enabled") is True and look(facts, "iommu", "passthrough") is False
    if translating and len(items(facts, "pci_gpus")) > 1:
        yield warning(
            "iommu-translation",
            "The IOMMU translates addresses, with which tensor parallelism over several GPUs is known to hang. Boot "
            "with iommu=pt, or declare env: {NCCL_P2P_DISABLE: 1} for servers with tensor_parallel_size above 1.",
        )


def _links(facts: Facts, wanted: Wanted) -> Iterator[Finding]:
    links = {frozenset((link["a"], link["b"])): link["type"] for link in items(facts, "links")}
    for server in wanted.servers:
        far = [f"{a} and {b}" for a, b in combinations(server["gpus"], 2) if links.get(frozenset((a, b))) == "SYS"]
        if far:
            yield warning(
                "slow-gpu-link",
                f"Server {server['name']} computes on GPUs {far[0]}, which are joined only across processor sockets. "
                "Declare other gpus where some of the host share a socket or NVLink (nvidia-smi topo -m).",
            )


def _numa(facts: Facts) -> Iterator[Finding]:
    empty = {node["node"] for node in items(facts, "numa_nodes") if node.get("memory_bytes") == 0}
    for gpu in items(facts, "pci_gpus"):
        if gpu.get("numa_node") in empty:
            yield warning(
                "numa-without-memory",
                f"GPU {gpu['address']} is at NUMA node {gpu['numa_node']}, which has no memory: all its data cross the "
                "sockets. Move memory modules to that socket.",
            )
