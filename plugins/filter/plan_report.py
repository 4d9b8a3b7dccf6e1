"""Filters over vllm_fleet.plan.report: the plans of all hosts as one report."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from vllm_fleet.plan.report import handover  # noqa: E402 - found by the path set above


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by the names templates use."""
        return {
            "plan_report": handover.report,
            "plan_text": handover.as_text,
            "plan_summary": handover.summary,
        }
