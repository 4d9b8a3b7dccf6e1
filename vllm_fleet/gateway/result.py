"""What one gateway serves, and to whom: what its role, the verification, Dify's sheet and snippets are given."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from vllm_fleet.plan.result import plain


@dataclass(frozen=True)
class Instance:
    """One model server on one host, as a gateway reaches it; ``url`` leads clients to this very one, without /v1."""

    host: str
    unit: str
    address: str
    port: int
    url: str


@dataclass(frozen=True)
class Served:
    """A model server behind a gateway: the same name on several hosts is one server with several instances.

    ``url`` is its own base URL without /v1, ``context_length`` the greatest length of a request in tokens, None where
    it is not known, ``keep_alive_seconds`` how long it keeps an unused connection.
    """

    name: str
    kind: str
    model: str
    context_length: int | None
    tool_calls: bool
    keep_alive_seconds: int
    url: str
    instances: tuple[Instance, ...]


@dataclass(frozen=True)
class Key:
    """What one key may do. Its secret is not here.

    ``requests_per_minute`` 0 means any number; ``servers`` are names, None means all.
    """

    name: str
    requests_per_minute: int
    concurrent_requests: int
    servers: tuple[str, ...] | None


@dataclass(frozen=True)
class GatewayPlan:
    """One gateway. ``base_url`` is what clients type, without /v1; ``tls`` is own_ca, files or none.

    ``maps`` are HAProxy's maps by file name, each a mapping; there is no secret in them but hashes of keys.
    """

    host: str
    base_url: str
    tls: str
    servers: tuple[Served, ...]
    keys: tuple[Key, ...]
    maps: dict[str, dict[str, str]]

    def as_dict(self) -> dict[str, Any]:
        """Return the plan as plain lists and mappings, as Ansible and JSON want it."""
        result: dict[str, Any] = plain(asdict(self))
        return result
