"""Ports that are declared for a model server but held by somebody else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from vllm_fleet.units import server_units


def taken_ports(
    servers: Iterable[Mapping[str, Any]], listeners: Iterable[Mapping[str, Any]]
) -> list[dict[str, Mapping[str, Any]]]:
    """Return ``{"server": ..., "listener": ...}`` for each planned server on whose port another process listens.

    Servers of this project that exchange their ports are no conflict: both are restarted.
    """
    heard = [listener for listener in listeners if not server_units([listener.get("unit") or ""])]
    return [
        {"server": server, "listener": listener}
        for server in servers
        for listener in heard
        if listener["port"] == server["port"]
    ]
