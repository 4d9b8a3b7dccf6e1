"""From the serving plans of all hosts to what one gateway serves, and to whom."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vllm_fleet.addresses import is_loopback
from vllm_fleet.gateway.declaration import parse_keys
from vllm_fleet.gateway.maps import make_maps
from vllm_fleet.gateway.result import GatewayPlan, Instance, Served
from vllm_fleet.plan.problems import Problem
from vllm_fleet.plan.sentences import listed
from vllm_fleet.plan.serving import bracketed

VLLM_KEEP_ALIVE_SECONDS = 5
# What stands in JSON as it is, whoever writes it.
MODEL_NAME = re.compile(r"[!#-&(-\[\]-~]+")
KEEP_ALIVE = "VLLM_HTTP_TIMEOUT_KEEP_ALIVE"


@dataclass(frozen=True)
class Settings:
    """Where a gateway is reached: by clients at ``address`` and ``port``, with ``tls`` own_ca, files or none."""

    address: str
    port: int
    tls: str


def make_gateway_plan(
    host: str,
    plans: Mapping[str, Mapping[str, Any]],
    keys: object,
    made: Mapping[str, Sequence[str]],
    absent: Sequence[str],
    settings: Settings,
) -> tuple[GatewayPlan | None, dict[str, list[str]], tuple[Problem, ...]]:
    """Plan one gateway; return the plan, or None, the secrets of all keys by their names, and every problem found.

    Args:
        host: its name in the inventory.
        plans: the serving plans of all hosts behind it, by their names, as plain data; empty where it has none.
        keys: the value of ``gateway_keys``.
        made: the secrets of keys that declare none, by the keys' names.
        absent: what another controller made for this gateway, and this one has not.
        settings: where clients reach it.
    """
    problems = [
        _problem(
            f"there is no plan of {name}, whose servers it would forget: the host was not reached, or is outside "
            "--limit. Run again with all hosts of group gpu_hosts"
        )
        for name, plan in plans.items()
        if not plan
    ]
    base = f"{'http' if settings.tls == 'none' else 'https'}://{bracketed(settings.address)}:{settings.port}"
    servers, found = _servers(host, [plan for plan in plans.values() if plan], base)
    declared, given, wrong = parse_keys(keys, [one.name for one in servers])
    problems += [*found, *wrong]
    if absent:
        problems.append(
            _problem(
                f"{listed(absent)} in use here came from another controller. Copy its gateway_secrets_directory to "
                "this one, or declare your own in the inventory (docs/gateway-keys.md)"
            )
        )
    if not servers and not problems:
        problems.append(_problem("no host of group gpu_hosts serves anything"))
    if problems:
        return None, {}, tuple(problems)
    secrets = {name: list(each) for name, each in {**made, **given}.items()}
    return GatewayPlan(host, base, settings.tls, servers, declared, make_maps(servers, declared, secrets)), secrets, ()


def elsewhere(keys: Sequence[str], certificate: bool) -> list[str]:
    """Return what another controller made, in words: some keys, the certificate's authority."""
    names = [f"the key{'' if len(keys) == 1 else 's'} {listed(keys)}"] if keys else []
    return [*names, *(["the certificate's authority"] if certificate else [])]


def _servers(host: str, plans: Iterable[Mapping[str, Any]], base: str) -> tuple[tuple[Served, ...], list[Problem]]:
    by_name: dict[str, list[Mapping[str, Any]]] = {}
    for plan in plans:
        for server in plan["servers"]:
            by_name.setdefault(server["name"], []).append(server)
    servers, problems = list[Served](), list[Problem]()
    for name, replicas in by_name.items():
        first, url = replicas[0], f"{base}/servers/{name}"
        problems += _differences(name, replicas)
        problems += [_unreachable(one) for one in replicas if is_loopback(_address(one, host)) and one["host"] != host]
        lengths = [one["context_length"] for one in replicas]
        servers.append(
            Served(
                name=name,
                kind=first["kind"],
                model=first["served_model_name"],
                context_length=None if None in lengths else min(lengths),
                keep_alive_seconds=min(_keep_alive(one["env"]) for one in replicas),
                tool_calls=all(one["tool_calls"] for one in replicas),
                url=url,
                instances=tuple(
                    Instance(
                        host=one["host"],
                        unit=one["unit"],
                        address=_address(one, host),
                        port=one["port"],
                        url=url if len(replicas) == 1 else f"{url}@{one['host']}",
                    )
                    for one in replicas
                ),
            )
        )
    problems += _shared_names(servers)
    problems += [
        _problem(
            f"server {one.name}: served_model_name {one.model!r} has a blank, a quote, a backslash or a character "
            "beyond ASCII, by which requests are not told apart here"
        )
        for one in servers
        if not MODEL_NAME.fullmatch(one.model)
    ]
    return tuple(servers), problems


def _keep_alive(environment: Mapping[str, str]) -> int:
    """Return for how many seconds a server keeps an unused connection; what is no number is vLLM's to complain of."""
    declared = environment.get(KEEP_ALIVE, "")
    return int(declared) if declared.isdecimal() else VLLM_KEEP_ALIVE_SECONDS


def _differences(name: str, replicas: Sequence[Mapping[str, Any]]) -> list[Problem]:
    """Servers of one name on several hosts answer for each other, so they must be the same."""
    for key in ("kind", "served_model_name"):
        values = {one[key]: one["host"] for one in replicas}
        if len(values) > 1:
            each = listed([f"{value} on {where}" for value, where in values.items()])
            return [
                _problem(f"server {name} has {key} {each}: servers of one name are replicas. Name them differently")
            ]
    return []


def _shared_names(servers: Iterable[Served]) -> list[Problem]:
    names: dict[tuple[str, str], list[str]] = {}
    for server in servers:
        names.setdefault((server.kind, server.model), []).append(server.name)
    return [
        _problem(
            f"servers {listed(same)} serve {kind} models of one name, {model}: a request could not be told apart. Give "
            "each a served_model_name of its own; replicas are servers of one name on several hosts"
        )
        for (kind, model), same in names.items()
        if len(same) > 1
    ]


def _unreachable(server: Mapping[str, Any]) -> Problem:
    return _problem(
        f"server {server['name']} of {server['host']} listens on loopback there, where this gateway does not get to. "
        f"Set model_server_bind_address of {server['host']} to its address in your private network; the port is then "
        "shut to all but gateways"
    )


def _address(server: Mapping[str, Any], host: str) -> str:
    """Return where the gateway reaches a server: on its own host as the unit's own probe does."""
    if server["host"] == host:
        return str(server["probe_address"])
    return str(server["base_url"]).removeprefix("http://").rpartition(":")[0].strip("[]")


def _problem(message: str) -> Problem:
    return Problem("gateway", message, code="gateway")
