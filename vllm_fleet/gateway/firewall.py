"""Which ports of model servers are to be closed, to whom they stay open, and which other firewall is in the way."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from vllm_fleet.addresses import is_loopback
from vllm_fleet.preflight.findings import Finding, warning
from vllm_fleet.preflight.wanted import Facts, items


def exposed_ports(servers: Iterable[Mapping[str, Any]]) -> list[int]:
    """Return the ports of servers that listen on anything but loopback, by what is passed to vLLM."""
    words = [server["argv"] for server in servers]
    # vLLM without --host listens everywhere.
    exposed = {_option(argv, "--port") for argv in words if not is_loopback(_option(argv, "--host") or "")}
    return sorted(int(port) for port in exposed if port)


def host_address(variables: Mapping[str, Any]) -> str:
    """Return the address of a host by its variables, as Ansible takes it."""
    return str(variables.get("ansible_host") or variables["inventory_hostname"])


def _option(argv: Sequence[str], name: str) -> str | None:
    """Return the word behind an option, None where it is not there."""
    return dict(pairwise(argv)).get(name)


def firewall_findings(facts: Facts, ports: Sequence[int], networks: Sequence[str]) -> list[dict[str, str]]:
    """Return a warning for each firewall of a host that keeps gateways from the model servers' ports.

    Args:
        facts: the fact ``gpu_host``.
        ports: of model servers.
        networks: from where gateways come, as addresses and networks.
    """
    found = []
    for firewall in items(facts, "firewalls"):
        closed = {network: closed_ports(firewall, ports, network) for network in networks}
        if any(closed.values()):
            found.append(_closed_to_gateways(str(firewall["name"]), {n: p for n, p in closed.items() if p}).as_dict())
    return found


def closed_ports(firewall: Mapping[str, Any], ports: Iterable[int], network: str | None) -> list[int]:
    """Return those of the ports that no rule of a firewall opens to all of a network, or to everybody for None."""
    return [port for port in ports if not any(_opens(rule, port, network) for rule in firewall["open"])]


def _opens(rule: Mapping[str, Any], port: int, network: str | None) -> bool:
    if not rule["first"] <= port <= rule["last"]:
        return False
    if rule["source"] is None or network is None:
        return rule["source"] is None
    try:
        inner, outer = (ipaddress.ip_network(one, strict=False) for one in (network, rule["source"]))
    except ValueError:  # an ipset's name, for one
        return False
    return inner.version == outer.version and inner.subnet_of(outer)  # type: ignore[arg-type]


def _closed_to_gateways(name: str, closed: Mapping[str, Sequence[int]]) -> Finding:
    ports = sorted({port for some in closed.values() for port in some})
    return warning(
        "firewall-closed",
        f"{name} is active and keeps {', '.join(closed)} from the model servers' ports {', '.join(map(str, ports))}. "
        f"Run: {command(name, closed)}",
    )


def command(name: str, closed: Mapping[str, Sequence[int]]) -> str:
    """Return what an administrator types to open ports of ufw or firewalld, by whom they are opened to ("" for all)."""
    if name == "ufw":
        rules = [
            f"ufw allow proto tcp from {network or 'any'} to any port {','.join(map(str, ports))}"
            for network, ports in closed.items()
        ]
        return " && ".join(rules)
    words = []
    for network, ports in closed.items():
        for port in ports:
            words.append(f"--add-rich-rule='{_rich_rule(network, port)}'" if network else f"--add-port={port}/tcp")
    return f"firewall-cmd --permanent {' '.join(words)} && firewall-cmd --reload"


def _rich_rule(network: str, port: int) -> str:
    family = f"ipv{ipaddress.ip_network(network, strict=False).version}"
    return f'rule family="{family}" source address="{network}" port port="{port}" protocol="tcp" accept'
