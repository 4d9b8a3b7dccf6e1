"""The hosts of tests/hosts, recorded and constructed: what the preflight finds on each, and nothing else."""

from __future__ import annotations

import pytest

from tests import hosts
from tests.hosts import replay
from tests.unit.preflight.preflight_host import SERVER
from vllm_fleet.preflight.host import findings
from vllm_fleet.preflight.wanted import Wanted

BY_HAND = Wanted(servers=[SERVER], driver_managed=False)
FOUND = {
    "a100x4": ["gpu-remap-pending", "gpu-needs-reset", "gpu-xid", "gpu-ecc"],
    "driver-userspace-mismatch": ["driver-mismatch", "kernel-without-module"],
    "fabric-manager-missing": ["fabric-manager-missing"],
    "gpu-fallen-off-the-bus": ["gpu-lost"],
    "h100-vm": [],
    "h100x8": [],
    "h200-vm": [],
    "h200x2": [],
    "l40s": [],
    "mig-a100x2": ["gpu-held"],
    "no-gpu": ["no-gpu"],
    "nouveau-loaded": ["gpu-driver-foreign", "driver-missing"],
    "rtx4090x2": ["gpu-persistence-off", "iommu-translation"],
    "secure-boot": ["secure-boot-key-not-enrolled"],
    "smi-hangs": ["gpu-xid", "driver-hangs"],
    "t4": [],
    "v100": ["gpu-too-old", "gpu-too-old"],
}


def test_every_host_is_here() -> None:
    assert sorted(FOUND) == sorted(hosts.names())


@pytest.mark.parametrize("name", sorted(FOUND))
def test_what_is_wrong_with_a_host_is_found_and_nothing_else(name: str) -> None:
    assert [one.code for one in findings(replay.facts(name, "/usr"), BY_HAND)] == FOUND[name]
