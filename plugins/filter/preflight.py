"""Filters over vllm_fleet.preflight: findings from facts, declarations, ports and failures, and their report."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from vllm_fleet.preflight import handover  # noqa: E402 - found by the path set above


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by the names templates use."""
        return {
            "preflight_findings": handover.fact_findings,
            "merge_findings": handover.merge,
            "declaration_findings": handover.declaration_findings,
            "port_findings": handover.port_findings,
            "failure_findings": handover.failure_findings,
            "preflight_by_host": handover.by_host,
            "preflight_table": handover.table,
            "preflight_summary": handover.summary,
            "preflight_json": handover.as_json,
            "error_lines": handover.error_lines,
        }
