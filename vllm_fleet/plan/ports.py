"""Ports that are declared for a model server but held by somebody else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def taken_ports(
    servers: Iterable[Mapping[str, Any]], listeners: Iterable[Mapping[str, Any]]
) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Return pairs (planned server, listener) where another process listens on the server's port.

    Servers of this project that exchange their ports are no conflict: both are restarted.
    """
    heard = [listener for listener in listeners if not (listener.get("unit") or "").startswith("vllm-")]
    return [(server, listener) for server in servers for listener in heard if listener["port"] == server["port"]]
