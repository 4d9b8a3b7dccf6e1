"""What would keep a gateway from working on a host, found before anything is changed there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from vllm_fleet.gateway.firewall import closed_ports, command
from vllm_fleet.preflight.findings import Finding, error, warning
from vllm_fleet.preflight.wanted import Facts, items, look

UNIT = "vllm-gateway.service"


@dataclass(frozen=True)
class Wanted:
    """What a run wants of a gateway's host.

    ``metrics_port`` is on loopback; ``server_ports`` are the ports of model servers on the same host, by their names.
    """

    port: int = 8443
    metrics_port: int = 8404
    server_ports: Mapping[str, int] = field(default_factory=dict)


def gateway_findings(facts: Facts, wanted: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return what speaks against a gateway on a host.

    Args:
        facts: the fact ``gpu_host`` of the gateway's host, which need not have a GPU; what is missing gives no finding.
        wanted: the fields of `Wanted`.
    """
    wants = Wanted(**wanted)
    return [one.as_dict() for one in (*_ports(facts, wants), *_selinux(facts, wants), *_firewalls(facts, wants))]


def _ports(facts: Facts, wanted: Wanted) -> Iterator[Finding]:
    own = {UNIT, *(f"vllm-{name}.service" for name in wanted.server_ports)}
    for variable, port in (("gateway_port", wanted.port), ("gateway_metrics_port", wanted.metrics_port)):
        for name in (name for name, taken in wanted.server_ports.items() if taken == port):
            yield error("gateway-port", f"{variable} {port} is also the port of model server {name}. Change one.")
        holders = [one for one in items(facts, "listeners") if one["port"] == port and one.get("unit") not in own]
        # A program whose workers all listen is one finding.
        for one in holders[:1]:
            unit = f", unit {one['unit']}" if one.get("unit") else ""
            yield error(
                "gateway-port",
                f"{variable} {port} is taken by {one['process']} (pid {one['pid']}{unit}). Stop it, or set another "
                f"{variable}.",
            )


def _selinux(facts: Facts, wanted: Wanted) -> Iterator[Finding]:
    # Without the boolean the policy has no rules for haproxy, and it runs unconfined.
    if look(facts, "selinux", "enforcing") and look(facts, "selinux", "haproxy_connect_any") is False:
        yield error(
            "gateway-selinux",
            f"SELinux keeps haproxy from the model servers' ports, and from port {wanted.port} unless it is one for "
            "web servers. Run: setsebool -P haproxy_connect_any on",
        )


def _firewalls(facts: Facts, wanted: Wanted) -> Iterator[Finding]:
    for firewall in items(facts, "firewalls"):
        if closed_ports(firewall, [wanted.port], None):
            name = str(firewall["name"])
            yield warning(
                "firewall-closed",
                f"{name} is active and does not open port {wanted.port} to everybody: other clients, and containers of "
                f"this host, cannot connect. Run: {command(name, {'': [wanted.port]})}",
            )
