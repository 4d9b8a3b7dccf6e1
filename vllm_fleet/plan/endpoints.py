"""What the verification is told: the servers of all planned hosts, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

_FIELDS = (
    "name",
    "host",
    "unit",
    "kind",
    "base_url",
    "dtype",
    "tensor_parallel_size",
    "max_model_len",
    "tool_calls",
    "trust_remote_code",
)


def endpoints(plans: Iterable[Mapping[str, Any]], api_key: str | None = None) -> dict[str, Any]:
    """Return the endpoints of some serving plans in the form ``scripts/verify --endpoints`` reads."""
    servers = [
        {**{key: server[key] for key in _FIELDS}, "model": server["served_model_name"], "api_key": api_key}
        for plan in plans
        for server in plan["servers"]
    ]
    return {"servers": servers}
