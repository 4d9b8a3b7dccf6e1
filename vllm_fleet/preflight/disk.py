"""Disks: what driver, vLLM and models take together, by file system."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from vllm_fleet.preflight.findings import Finding, error
from vllm_fleet.preflight.wanted import Facts, Wanted, driver_present, items, names

HEADROOM = 1 << 30
# Packages, their download, and modules for two kernels.
DRIVER_BYTES = 3 << 30
DRIVER_PATH = "/usr"


def findings(facts: Facts, wanted: Wanted) -> Iterator[Finding]:
    """Yield the file systems on which the parts fit one by one, but not together.

    A part that does not fit by itself is reported by its role. A need is ``{owner, path, bytes, mount, free_bytes}``.
    """
    by_mount: dict[str, list[Mapping[str, Any]]] = {}
    for need in [*wanted.disk_needs, *_driver(facts, wanted)]:
        by_mount.setdefault(need["mount"], []).append(need)
    for mount, needs in sorted(by_mount.items()):
        free = min(need["free_bytes"] for need in needs)
        owners = {need["owner"] for need in needs}
        parts = {owner: sum(need["bytes"] for need in needs if need["owner"] == owner) for owner in owners}
        total = sum(parts.values()) + HEADROOM
        fits_alone = all(size + HEADROOM <= free for owner, size in parts.items() if owner != "nvidia_driver")
        if total > free and fits_alone:
            each = names([f"{need['path']} {need['bytes'] / 1e9:.1f} GB" for need in needs], limit=8)
            yield error(
                "disk-too-small",
                f"{mount}: {free / 1e9:.1f} GB free, {total / 1e9:.1f} GB needed for all together ({each}). Make room, "
                "or move vllm_runtime_root, vllm_runtime_cache or model_store_root to another file system.",
            )


def _driver(facts: Facts, wanted: Wanted) -> list[Mapping[str, Any]]:
    """Return what the driver will take, where one is still to be installed."""
    if wanted.backend != "cuda" or not wanted.driver_managed or driver_present(facts):
        return []
    return [
        {
            "owner": "nvidia_driver",
            "path": DRIVER_PATH,
            "bytes": DRIVER_BYTES,
            "mount": disk["mount"],
            "free_bytes": disk["free_bytes"],
        }
        for disk in items(facts, "disks")
        if disk.get("path") == DRIVER_PATH and disk.get("free_bytes") is not None
    ]
