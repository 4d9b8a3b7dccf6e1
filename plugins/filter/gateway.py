"""Filters over vllm_fleet.gateway: the plan of a gateway and the keys that are to be made for it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from vllm_fleet.gateway.declaration import keys_to_make  # noqa: E402 - found by the path set above
from vllm_fleet.gateway.plan import Settings, elsewhere, make_gateway_plan  # noqa: E402


def gateway_plan(
    keys: object,
    host: str,
    plans: Mapping[str, Mapping[str, Any]],
    kept: Mapping[str, Any],
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """Plan one gateway: ``{"plan": {...} or None, "secrets": {name: [...]}, "problems": [...]}``.

    Args:
        keys: the value of ``gateway_keys``.
        host: the gateway's name in the inventory.
        plans: the facts ``serving_plan`` of all GPU hosts by their names; empty where a host has none.
        kept: what the module gateway_secrets returned: keys, missing, certificate_missing.
        settings: the fields of `Settings`.
    """
    plan, secrets, problems = make_gateway_plan(
        host, plans, keys, kept["keys"], elsewhere(kept["missing"], kept["certificate_missing"]), Settings(**settings)
    )
    return {
        "plan": plan.as_dict() if plan else None,
        "secrets": secrets,
        "problems": [asdict(problem) for problem in problems],
    }


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by the names templates use."""
        return {"gateway_plan": gateway_plan, "keys_to_make": keys_to_make}
