"""Filters of the role gpu_health: thin adapters to vllm_fleet.gpu_health."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from vllm_fleet.gpu_health.findings import Wanted, find, find_as_user  # noqa: E402 - found by the path set above
from vllm_fleet.gpu_health.table import render, rows  # noqa: E402


def gpu_health_findings(
    proof: Mapping[str, Any], host: Mapping[str, Any], expected_gpus: int = 0, driver_version: str = ""
) -> list[dict[str, str]]:
    """Judge a proof and the fact ``gpu_host`` of the same host."""
    return find(proof, host, Wanted(expected_gpus, str(driver_version)))


class FilterModule:
    """The filters of this project."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by the names templates use."""
        return {
            "gpu_health_findings": gpu_health_findings,
            "gpu_health_findings_as_user": find_as_user,
            "gpu_health_rows": _rows,
            "gpu_health_table": render,
        }


def _rows(
    proof: Mapping[str, Any], name: str, host: Mapping[str, Any], findings: Sequence[Mapping[str, str]]
) -> list[dict[str, str]]:
    return rows(name, proof, host, findings)
