"""Memory: of GPUs and who holds it, of the machine, and shared memory."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from vllm_fleet.plan.settings import Settings
from vllm_fleet.preflight.findings import Finding, error, warning
from vllm_fleet.preflight.wanted import Facts, Wanted, items, look, names

GIB = 1 << 30
# Of main memory, what one rank of a server takes beside its weights: the process, its CUDA context, pinned buffers.
RANK_BYTES = 4 * GIB
SHM_BYTES = 1 * GIB
OWN_UNIT = re.compile(r"vllm-.*\.service")
# vLLM names its processes so; the API server of a server started by hand is `vllm serve`.
ENGINE = re.compile(r"VLLM::|(^|/)vllm( |$)")


def share_of(server: Mapping[str, Any]) -> float:
    """Return the fraction of a GPU's memory a planned server takes; vLLM's own default where none is planned."""
    return float(server.get("share") or Settings.gpu_memory_alone)


def gpu_findings(facts: Facts, wanted: Wanted) -> Iterator[Finding]:
    """Yield who holds GPU memory that servers need."""
    for gpu in items(facts, "gpus"):
        foreign = [one for one in gpu.get("processes") or [] if not OWN_UNIT.fullmatch(one.get("unit") or "")]
        leftovers = [one for one in foreign if not one.get("unit") and ENGINE.search(one.get("name") or "")]
        for one in leftovers:
            yield error(
                "gpu-leftover",
                f"GPU {gpu['index']}: {_who(one)} is an engine of no unit, a leftover or started by hand. End it: "
                f"kill {one['pid']}",
            )
        for one in foreign:
            if one not in leftovers:
                yield warning(
                    "gpu-held",
                    f"GPU {gpu['index']}: {_who(one)} uses it as well. Agree with its owner, or declare other gpus.",
                )
        yield from _room(gpu, wanted)


def _who(process: Mapping[str, Any]) -> str:
    used = process.get("used_mib")
    parts = [f"pid {process.get('pid')}"]
    parts += [f"user {process['user']}"] if process.get("user") else []
    parts += [f"unit {process['unit']}"] if process.get("unit") else []
    parts += [f"{used} MiB"] if used is not None else []
    return f"{process.get('name') or 'a process'} ({', '.join(parts)})"


def _room(gpu: Mapping[str, Any], wanted: Wanted) -> Iterator[Finding]:
    total, free = gpu.get("memory_total_mib"), gpu.get("memory_free_mib")
    here = [server for server in wanted.servers if gpu.get("index") in server["gpus"]]
    if total is None or free is None or not here:
        return
    # What our own units hold now is theirs to use again.
    ours = [one for one in gpu.get("processes") or [] if OWN_UNIT.fullmatch(one.get("unit") or "")]
    if any(one.get("used_mib") is None for one in ours):
        return
    free += sum(one["used_mib"] for one in ours)
    needed = sum(share_of(server) for server in here) * total
    if needed > free:
        yield error(
            "gpu-memory-short",
            f"GPU {gpu['index']}: {free:.0f} of {total} MiB can be had, {names([one['name'] for one in here])} take "
            f"{needed:.0f}. Free the memory, or lower gpu_memory_utilization.",
        )


def host_findings(facts: Facts, wanted: Wanted) -> Iterator[Finding]:
    """Yield what main memory is short of."""
    ranks = sum(len(server["gpus"]) for server in wanted.servers)
    total, shared = look(facts, "memory_total_bytes"), look(facts, "shm_bytes")
    if total is not None and total < ranks * RANK_BYTES:
        yield warning(
            "memory-too-small",
            f"{total / GIB:.0f} GiB of main memory for {ranks} GPU processes, which take about "
            f"{RANK_BYTES / GIB:.0f} GiB each. Add memory, or declare fewer servers.",
        )
    if shared is not None and shared < SHM_BYTES and any(len(server["gpus"]) > 1 for server in wanted.servers):
        yield warning(
            "shm-too-small",
            f"Shared memory (/dev/shm) has {shared / (1 << 20):.0f} MiB, which is short for tensor parallelism. Run: "
            "mount -o remount,size=4G /dev/shm, and enter it in /etc/fstab.",
        )
