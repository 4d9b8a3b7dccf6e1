"""What would keep a gateway from its port, from model servers, and clients from the gateway."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.load import load
from tests.unit.model_servers.model_server_host import build
from vllm_fleet.gateway.findings import gateway_findings
from vllm_fleet.gateway.firewall import exposed_ports, firewall_findings, host_address

load("plugins/modules/gpu_host_facts.py")
from ansible.module_utils.gpu_host.guards import read_guards  # noqa: E402 - found by load
from ansible.module_utils.gpu_host.source import Source  # noqa: E402

HAPROXY = {"port": 8443, "pid": 9, "process": "haproxy", "unit": "vllm-gateway.service"}
UFW = {
    "/etc/ufw/ufw.conf": "# ufw\nENABLED=yes\nLOGLEVEL=low\n",
    "/etc/default/ufw": 'IPV6=yes\nDEFAULT_INPUT_POLICY="DROP"\n',
}
UFW_RULES = """### RULES ###
### tuple ### allow tcp 8443 0.0.0.0/0 any 0.0.0.0/0 in
### tuple ### limit any 22 0.0.0.0/0 any 0.0.0.0/0 in
### tuple ### allow tcp 32804:32805,32806 0.0.0.0/0 any 192.0.2.0/24 in
### tuple ### deny tcp 9000 0.0.0.0/0 any 0.0.0.0/0 in
### tuple ### allow udp 9001 0.0.0.0/0 any 0.0.0.0/0 in
"""
FIREWALLD = """public (active)
  target: default
  interfaces: eth0
  services: dhcpv6-client ssh
  ports: 8443/tcp 53/udp 9000-9010/tcp
  rich rules:
\trule family="ipv4" source address="192.0.2.5" port port="32804" protocol="tcp" accept
\trule family="ipv4" source address="192.0.2.7" accept
\trule family="ipv4" source address="192.0.2.6" port port="32804" protocol="tcp" reject
"""
RUNS = {"systemctl is-active firewalld.service": "active\n"}


def guards(root: Path, files: dict[str, str] | None = None, commands: dict[str, str] | None = None) -> Any:
    return read_guards(Source(str(build(root, commands or {}, files or {}))))


def codes(facts: dict[str, Any], **wanted: Any) -> list[tuple[str, str]]:
    return [(one["code"], one["severity"]) for one in gateway_findings(facts, wanted)]


def servers(*addresses: str) -> list[dict[str, Any]]:
    words = [["serve", "/m", "--host", one, "--port", str(32804 + at)] for at, one in enumerate(addresses)]
    return [{"argv": argv} for argv in words]


def test_a_host_without_guards_has_none(tmp_path: Path) -> None:
    found = guards(tmp_path)
    assert found == {"selinux": {"enforcing": False, "haproxy_connect_any": None}, "firewalls": []}
    assert codes(found) == []


def test_what_is_unknown_gives_no_finding() -> None:
    assert codes({}) == []
    assert firewall_findings({}, [32804], ["192.0.2.5"]) == []


def test_somebody_elses_port_is_refused_and_our_own_haproxy_is_not() -> None:
    nginx = HAPROXY | {"process": "nginx", "unit": "nginx.service"}
    assert codes({"listeners": [HAPROXY, HAPROXY]}) == []
    (found,) = gateway_findings({"listeners": [nginx, nginx | {"pid": 10}]}, {"port": 8443})
    assert (found["code"], found["severity"]) == ("gateway-port", "error")
    assert found["message"].startswith("gateway_port 8443 is taken by nginx (pid 9, unit nginx.service).")


def test_the_distributions_own_haproxy_on_the_port_is_somebody_else() -> None:
    assert codes({"listeners": [HAPROXY | {"unit": "haproxy.service"}]}) == [("gateway-port", "error")]


def test_a_model_server_on_the_gateways_port_is_named() -> None:
    (found,) = gateway_findings({}, {"port": 32804, "server_ports": {"llm": 32804, "rerank": 32806}})
    assert found["message"] == "gateway_port 32804 is also the port of model server llm. Change one."


def test_the_port_of_its_metrics_is_looked_at_as_well() -> None:
    (found,) = gateway_findings({"listeners": [HAPROXY | {"port": 8404, "unit": None}]}, {})
    assert found["message"].endswith("Stop it, or set another gateway_metrics_port.")


@pytest.mark.parametrize(
    ("enforce", "boolean", "expected"),
    [("1", "0 0", [("gateway-selinux", "error")]), ("1", "1 1", []), ("0", "0 0", []), ("1", None, [])],
)
def test_selinux_is_told_of_only_where_it_forbids(
    tmp_path: Path, enforce: str, boolean: str | None, expected: list[tuple[str, str]]
) -> None:
    files = {"/sys/fs/selinux/enforce": enforce}
    files |= {"/sys/fs/selinux/booleans/haproxy_connect_any": boolean} if boolean else {}
    assert codes(guards(tmp_path, files)) == expected


@pytest.mark.parametrize(
    ("files", "commands", "said"),
    [
        (UFW, {}, "Run: ufw allow proto tcp from any to any port 8443"),
        ({}, RUNS, "Run: firewall-cmd --permanent --add-port=8443/tcp && firewall-cmd --reload"),
    ],
    ids=["ufw", "firewalld"],
)
def test_a_firewall_that_keeps_clients_away_is_named_with_the_command(
    tmp_path: Path, files: dict[str, str], commands: dict[str, str], said: str
) -> None:
    (found,) = gateway_findings(guards(tmp_path, files, commands), {"port": 8443})
    assert (found["code"], found["severity"]) == ("firewall-closed", "warning")
    assert found["message"].endswith(said)


def test_once_the_command_has_run_nothing_is_found(tmp_path: Path) -> None:
    assert codes(guards(tmp_path / "a", {**UFW, "/etc/ufw/user.rules": UFW_RULES})) == []
    assert codes(guards(tmp_path / "b", {}, {**RUNS, "firewall-cmd --list-all": FIREWALLD})) == []
    assert codes(guards(tmp_path / "b", {}, {**RUNS, "firewall-cmd --list-all": FIREWALLD}), port=9005) == []


@pytest.mark.parametrize("port", [9000, 9001, 9002])
def test_what_is_denied_or_for_another_protocol_is_closed(tmp_path: Path, port: int) -> None:
    files = {**UFW, "/etc/ufw/user.rules": UFW_RULES}
    assert codes(guards(tmp_path, files), port=port) == [("firewall-closed", "warning")]


@pytest.mark.parametrize(
    "change", [{"/etc/ufw/ufw.conf": "ENABLED=no\n"}, {"/etc/default/ufw": "DEFAULT_INPUT_POLICY=ACCEPT"}]
)
def test_ufw_that_refuses_nothing_is_no_firewall(tmp_path: Path, change: dict[str, str]) -> None:
    assert guards(tmp_path, UFW | change)["firewalls"] == []


def test_gateways_are_let_through_ufw_by_one_command(tmp_path: Path) -> None:
    found = guards(tmp_path, {**UFW, "/etc/ufw/user.rules": UFW_RULES})
    assert firewall_findings(found, [32804, 32806], ["192.0.2.5"]) == []
    (closed,) = firewall_findings(found, [32804, 32806], ["192.0.2.5", "198.51.100.5"])
    assert closed["message"] == (
        "ufw is active and keeps 198.51.100.5 from the model servers' ports 32804, 32806. "
        "Run: ufw allow proto tcp from 198.51.100.5 to any port 32804,32806"
    )


def test_what_ufw_opens_over_ipv6_alone_counts_for_those_it_names(tmp_path: Path) -> None:
    rules = "### tuple ### allow tcp 8443 ::/0 any ::/0 in\n### tuple ### allow tcp 8443 ::/0 any 2001:db8::/32 in\n"
    found = guards(tmp_path, {**UFW, "/etc/ufw/user6.rules": rules})
    assert codes(found) == [("firewall-closed", "warning")]
    assert firewall_findings(found, [8443], ["2001:db8::5"]) == []


def test_gateways_are_let_through_firewalld_by_rich_rules(tmp_path: Path) -> None:
    found = guards(tmp_path, {}, {**RUNS, "firewall-cmd --list-all": FIREWALLD})
    assert firewall_findings(found, [32804], ["192.0.2.5", "192.0.2.7"]) == []
    (closed,) = firewall_findings(found, [32804], ["192.0.2.6", "2001:db8::5"])
    assert closed["message"].endswith(
        "Run: firewall-cmd --permanent "
        """--add-rich-rule='rule family="ipv4" source address="192.0.2.6" port port="32804" protocol="tcp" accept' """
        """--add-rich-rule='rule family="ipv6" source address="2001:db8::5" port port="32804" protocol="tcp" accept' """
        "&& firewall-cmd --reload"
    )


def test_ports_of_servers_on_loopback_are_not_exposed() -> None:
    assert exposed_ports(servers("127.0.0.1", "::1", "localhost")) == []
    assert exposed_ports(servers("0.0.0.0", "127.0.0.1", "10.0.0.5", "::")) == [32804, 32806, 32807]
    assert exposed_ports([{"argv": ["serve", "/m", "--port", "1"]}, {"argv": []}]) == [1]
    assert exposed_ports(servers("10.0.0.5") + servers("10.0.0.5")) == [32804]


def test_a_host_without_an_address_is_reached_by_its_name() -> None:
    assert host_address({"inventory_hostname": "gw-1", "ansible_host": "192.0.2.5"}) == "192.0.2.5"
    assert host_address({"inventory_hostname": "gw-1"}) == "gw-1"
