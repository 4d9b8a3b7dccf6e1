"""What the verification is told: the servers of all planned hosts, the gateways before them, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from vllm_fleet.addresses import is_loopback

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

Json = Mapping[str, Any]


def endpoints(plans: Iterable[Json], api_key: str | None = None, gateways: Sequence[Json] = ()) -> dict[str, Any]:
    """Return the endpoints of some serving plans in the form ``scripts/verify --endpoints`` reads.

    Args:
        plans: of all hosts that are to be verified.
        api_key: of the servers, where no gateway stands before them.
        gateways: as `looked_at` returns them. A server is asked through that of its own host, or else the first that
            leads to it.
    """
    ways = _ways(gateways)
    servers = [
        {
            **{key: server[key] for key in _FIELDS},
            "model": server["served_model_name"],
            "api_key": api_key,
            **ways.get((server["host"], server["name"]), {}),
        }
        for plan in plans
        for server in plan["servers"]
    ]
    addresses = [_host_of(gateway["plan"]["base_url"]) for gateway in gateways]
    return {"servers": [*(_gateway(one, addresses) for one in gateways), *servers]}


def looked_at(hosts: Iterable[str], hostvars: Mapping[str, Json]) -> list[dict[str, Any]]:
    """Return the gateways among some hosts, from the facts that the role gateway sets; those without them are left out.

    Each has ``plan``, a GatewayPlan as plain data, ``keys``, the secrets by the keys' names, and ``ca_file``.
    """
    known = [hostvars[host] for host in hosts if hostvars[host].get("gateway_plan")]
    return [{"plan": one["gateway_plan"], **one["gateway_secrets"]} for one in known]


def _ways(gateways: Sequence[Json]) -> dict[tuple[str, str], dict[str, Any]]:
    """Return how to ask each server, by its host and name."""
    ways: dict[tuple[str, str], dict[str, Any]] = {}
    for gateway in gateways:
        plan = gateway["plan"]
        for server in plan["servers"]:
            way = {
                "api_key": _secret(gateway, _best(_keys_for(plan, server["name"]))),
                "ca_file": gateway["ca_file"],
                "gateway": plan["host"],
            }
            for one in server["instances"]:
                place = (one["host"], server["name"])
                if place not in ways or one["host"] == plan["host"]:
                    ways[place] = {**way, "base_url": one["url"]}
    return ways


def _gateway(gateway: Json, addresses: Sequence[str]) -> dict[str, Any]:
    """Return the endpoint of a gateway itself, with all that one of its keys may use."""
    plan = gateway["plan"]
    most = max((len(_usable(plan, key)) for key in plan["keys"]), default=0)
    key = _best([key for key in plan["keys"] if len(_usable(plan, key)) == most])
    usable = _usable(plan, key) if key else list(plan["servers"])
    return {
        "name": "gateway",
        "host": plan["host"],
        "unit": "vllm-gateway.service",
        "kind": "gateway",
        "base_url": plan["base_url"],
        "api_key": _secret(gateway, key),
        "ca_file": gateway["ca_file"],
        "served": [
            {
                **{field: one[field] for field in ("name", "kind", "model", "url")},
                "max_model_len": one["context_length"],
            }
            for one in usable
        ],
        "instances": [
            {
                "server": server["name"],
                **{field: one[field] for field in ("host", "unit", "port")},
                # Loopback of the gateway's own host: nobody else must get in at the address by which it is known.
                "address": _host_of(plan["base_url"]) if is_loopback(one["address"]) else one["address"],
            }
            for server in plan["servers"]
            for one in server["instances"]
        ],
        "gateway_addresses": list(addresses),
    }


def _keys_for(plan: Json, server: str) -> list[Json]:
    """Return the keys that may use a server, those that may use all of them first."""
    able = [key for key in plan["keys"] if key["servers"] is None or server in key["servers"]]
    return [key for key in able if key["servers"] is None] or able


def _usable(plan: Json, key: Json) -> list[Json]:
    return [one for one in plan["servers"] if key["servers"] is None or one["name"] in key["servers"]]


def _best(keys: Sequence[Json]) -> Json | None:
    """Return the first, but rather one without a limit per minute: a verification asks hundreds of times."""
    return min(keys, key=lambda key: key["requests_per_minute"] > 0, default=None)


def _secret(gateway: Json, key: Json | None) -> str | None:
    """Return what to send: of several secrets of a key all are accepted."""
    secrets: list[str] = gateway["keys"].get(key["name"], []) if key else []
    return secrets[0] if secrets else None


def _host_of(url: str) -> str:
    return urlsplit(url).hostname or ""
