"""A healthy GPU host as gpu_host_facts reports one, made up for these tests, and ways to make it ill."""

from __future__ import annotations

import copy
from typing import Any

DRIVER = "580.159.04"
KERNEL = "6.1.0-38-amd64"
GPUS = 8


def _address(index: int) -> str:
    return f"0000:{0x18 + index:02x}:00.0"


def _pci_gpu(index: int) -> dict[str, Any]:
    return {
        "address": _address(index),
        "id": "10de:2330",
        "name": "H100 SXM5 80GB",
        "architecture": "Hopper",
        "compute_capability": "9.0",
        "driver": "nvidia",
        "numa_node": index // 4,
    }


def _gpu(index: int) -> dict[str, Any]:
    return {
        "index": index,
        "uuid": f"GPU-{index}",
        "pci_address": _address(index),
        "name": "NVIDIA H100 80GB HBM3",
        "architecture": "Hopper",
        "compute_capability": "9.0",
        "memory_total_mib": 81559,
        "memory_used_mib": 1,
        "memory_free_mib": 81000,
        "persistence": True,
        "mig": False,
        "mig_devices": [],
        "ecc": True,
        "ecc_uncorrected": 0,
        "remap_pending": False,
        "remap_failure": False,
        "recovery_action": "None",
        "fabric_state": "Completed",
        "fabric_status": "Success",
        "minor": index,
        "processes": [],
    }


_HEALTHY: dict[str, Any] = {
    "os": {"id": "debian", "id_like": [], "version_id": "12", "name": "Debian GNU/Linux"},
    "architecture": "x86_64",
    "kernel": KERNEL,
    "python": "3.11.2",
    "systemd": 252,
    "boot_id": "b",
    "time": 1_000_000.0,
    "time_synchronized": True,
    "virtualization": "none",
    "cpus": list(range(64)),
    "memory_total_bytes": 1 << 40,
    "memory_available_bytes": 1 << 39,
    "shm_bytes": 1 << 39,
    "numa_nodes": [{"node": node, "cpus": "0-31", "memory_bytes": 1 << 39} for node in (0, 1)],
    "iommu": {"enabled": True, "passthrough": True},
    "kernels": [{"release": KERNEL, "headers": True, "nvidia_module": f"/lib/modules/{KERNEL}/updates/dkms/nvidia.ko"}],
    "secure_boot": {"enabled": False, "mok_enrolled": None},
    "compiler": {"cc": "gcc 12.2.0", "kernel_cc": "gcc-12 (Debian 12.2.0-14) 12.2.0, GNU ld 2.40"},
    "pci_gpus": [_pci_gpu(index) for index in range(GPUS)],
    "nvswitches": [{"address": f"0000:0{n}:00.0", "id": "10de:22a3", "driver": "nvidia-nvswitch"} for n in range(4)],
    "nvidia": {
        "module": {"loaded": True, "version": DRIVER, "open": True, "licence": "Dual MIT/GPL"},
        "uvm_loaded": True,
        "nouveau_loaded": False,
        "nova_loaded": False,
        "userspace_version": DRIVER,
        "firmware_versions": [DRIVER],
        "fabric_manager": {"version": DRIVER, "active": True, "log": None},
        "persistenced": {"active": True, "user": "nvidia-persistenced"},
        "cuda_version": "13.0",
        "smi": {"state": "ok", "message": ""},
        "devices": ["nvidia0", "nvidiactl", "nvidia-uvm"],
        "xids": [],
    },
    "gpus": [_gpu(index) for index in range(GPUS)],
    "links": [{"a": a, "b": b, "type": "NV18"} for a in range(GPUS) for b in range(a + 1, GPUS)],
    "disks": [{"path": "/usr", "mount": "/", "free_bytes": 10**12, "total_bytes": 10**12}],
    "listeners": [],
}

WITHOUT_DRIVER: dict[str, Any] = {
    "nvidia.module": {"loaded": False, "version": None, "open": None, "licence": None},
    "nvidia.userspace_version": None,
    "nvidia.firmware_versions": [],
    "nvidia.fabric_manager.version": None,
    "nvidia.fabric_manager.active": None,
    "nvidia.smi": {"state": "missing", "message": "nvidia-smi: command not found"},
    "kernels.0.nvidia_module": None,
    "gpus": None,
}

SERVER = {"name": "llm", "gpus": [0, 1], "share": 0.7}


def healthy_host(overrides: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the healthy host, with `overrides` by path: {"gpus.0.mig": True}."""
    facts = copy.deepcopy(_HEALTHY)
    for path, value in (overrides or {}).items():
        *above, last = path.split(".")
        place: Any = facts
        for key in above:
            place = place[int(key)] if isinstance(place, list) else place[key]
        place[int(last) if isinstance(place, list) else last] = copy.deepcopy(value)
    return facts


def paths(value: Any, prefix: str = "") -> list[str]:
    """Return the path of every value in `value`, inner ones included."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = [f"{prefix}{key}" for key, _ in inside]
    for key, below in inside:
        found += paths(below, f"{prefix}{key}.")
    return found
