"""Filters over vllm_fleet.gateway: what keeps gateways from working, and which ports only they may reach."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from vllm_fleet.gateway import findings, firewall  # noqa: E402 - found by the path set above


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by the names templates use."""
        return {
            "gateway_findings": findings.gateway_findings,
            "firewall_findings": firewall.firewall_findings,
            "exposed_ports": firewall.exposed_ports,
            "host_address": firewall.host_address,
        }
