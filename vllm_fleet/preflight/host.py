"""All checks over the facts of one host."""

from __future__ import annotations

from collections.abc import Iterator

from vllm_fleet.preflight import disk, driver, fabric, gpu, kernel, memory, platform
from vllm_fleet.preflight.findings import Finding
from vllm_fleet.preflight.wanted import Facts, Wanted


def findings(facts: Facts, wanted: Wanted) -> tuple[Finding, ...]:
    """Return everything that speaks against a run on a host, errors first.

    Args:
        facts: the fact ``gpu_host``; what is missing or null in it is unknown and gives no finding.
        wanted: what the run wants of the host. GPUs count only with the backend cuda.
    """
    found = [
        *platform.findings(facts, wanted),
        *platform.unread(facts, wanted),
        *disk.findings(facts, wanted),
        *memory.host_findings(facts, wanted),
    ]
    if wanted.backend == "cuda":
        found += _gpu_findings(facts, wanted)
    return tuple(sorted(dict.fromkeys(found), key=lambda one: str(one.severity)))


def _gpu_findings(facts: Facts, wanted: Wanted) -> Iterator[Finding]:
    yield from gpu.findings(facts, wanted)
    yield from driver.findings(facts, wanted)
    yield from kernel.findings(facts, wanted)
    yield from fabric.findings(facts, wanted)
    yield from memory.gpu_findings(facts, wanted)
    yield from platform.virtual_machine(facts)
