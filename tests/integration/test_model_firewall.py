"""The role model_firewall on real hosts: who reaches the ports of model servers, and who does not.

Plain HTTP servers of Python's stand in for the model servers: what is tried is the way to a port, not what answers.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.conftest import PREFIX, Done, run, wait_until

pytestmark = pytest.mark.integration

LAB = f"{PREFIX}w"
PORTS = (32804, 32805)
OTHER_PORT = 32899
UNIT = "vllm-firewall.service"
FILES = ("/etc/vllm-firewall", f"/etc/systemd/system/{UNIT}")
# A server per port, over IPv4 and IPv6.
STAND_IN = """[Service]
Type=exec
ExecStart=/usr/bin/python3 -m http.server --bind :: --directory /srv %i
[Install]
WantedBy=multi-user.target
"""
CONNECT = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=5).close()
    print("open")
except ConnectionRefusedError:
    print("refused")
except TimeoutError:
    print("no answer")
"""
# What another firewall may have, and what Docker's looks like to nft.
FOREIGN = """
table inet own_firewall {
    set office { type ipv4_addr; elements = { 198.51.100.7 }; }
    chain input { type filter hook input priority 10; policy accept; ip saddr @office tcp dport 22 counter accept; }
}
table ip nat {
    chain DOCKER { type nat hook prerouting priority dstnat; policy accept; }
}
"""
LOOK = {"model_server_facts": {}}
SHOW = {"ansible.builtin.debug": {"var": "model_firewall_findings"}}
RUNNING = f"[Service]\nExecStart=python -- /r/bin/vllm serve /m --host 0.0.0.0 --port {OTHER_PORT}\n"


@dataclass(frozen=True)
class Host:
    """A host of this file's own lab."""

    name: str
    address: str

    def do(self, *command: str) -> Done:
        return run("scripts/lab", "--prefix", LAB, "exec", self.name, "--", *command)

    def read(self, *command: str) -> str:
        done = self.do(*command)
        assert done.status == 0, f"{' '.join(command)} on {self.name}: {done.output}"
        return done.output.strip()

    def connect(self, address: str, port: int = PORTS[0]) -> str:
        """Try to connect from this host: open, refused or no answer."""
        return self.read("python3", "-c", CONNECT, address, str(port))

    def table(self) -> str:
        """Return the table as the kernel has it, empty where there is none."""
        done = self.do("nft", "-s", "list", "table", "inet", "vllm_fleet")
        return done.output if done.status == 0 else ""


@dataclass(frozen=True)
class Fleet:
    """A GPU host, a gateway, a client, and the inventory of the first two."""

    server: Host
    gateway: Host
    client: Host
    directory: Path

    def converge(
        self,
        *options: str,
        bind: str = "0.0.0.0",
        hosts: str = "hosts.yml",
        entry: str = "main",
        **variables: Any,
    ) -> Done:
        servers = [
            {"name": f"s{port}", "port": port, "argv": ["serve", "/m", "--host", bind, "--port", str(port)]}
            for port in PORTS
        ]
        role = {"ansible.builtin.import_role": {"name": "model_firewall", "tasks_from": entry}}
        play = {"hosts": "gpu_hosts", "gather_facts": False, "tasks": [LOOK, role, SHOW]}
        file = self.directory / "play.yml"
        file.write_text(yaml.safe_dump([play | {"vars": {"serving_plan": {"servers": servers}, **variables}}]))
        return run("ansible-playbook", file, "-i", self.directory / hosts, "--diff", *options)

    def converged(self, **variables: Any) -> Done:
        done = self.converge(**variables)
        assert done.status == 0, done.output
        return done


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Three plain hosts; only the first has servers."""
    if os.geteuid() != 0:
        pytest.skip("lab hosts need root: run `sudo make test`")
    run("scripts/lab", "--prefix", LAB, "down")
    up = run("scripts/lab", "--prefix", LAB, "up", "lab-1", "gw-1", "client-1")
    assert up.status == 0, up.output
    listed = json.loads(run("env", f"VLLM_FLEET_LAB={LAB}", "inventory/lab/hosts.py", "--list").output)
    connection, hosts = listed["gpu_hosts"]["vars"], listed["_meta"]["hostvars"]
    directory = tmp_path_factory.mktemp("fleet")
    groups = {name: {"hosts": {host: hosts[host]}} for name, host in (("gpu_hosts", "lab-1"), ("gateways", "gw-1"))}
    for file, named in (("hosts.yml", groups), ("alone.yml", {"gpu_hosts": groups["gpu_hosts"]})):
        (directory / file).write_text(yaml.safe_dump({"all": {"vars": connection, "children": named}}))
    made = Fleet(*(Host(name, hosts[name]["ansible_host"]) for name in ("lab-1", "gw-1", "client-1")), directory)
    units = " ".join(f"stand-in@{port}.service" for port in (*PORTS, OTHER_PORT))
    place = f"cat > /etc/systemd/system/stand-in@.service && systemctl daemon-reload && systemctl enable --now {units}"
    made.server.read("sh", "-c", f"printf '%s' '{STAND_IN}' | ({place})")
    for number, host in enumerate((made.server, made.gateway, made.client), start=1):
        host.read("ip", "address", "add", f"fd42::{number}/64", "dev", "host0", "nodad")
    wait_until(lambda: made.client.connect(made.server.address) == "open", 30)
    yield made
    run("scripts/lab", "--prefix", LAB, "down")


@pytest.fixture(scope="module")
def rules(fleet: Fleet) -> str:
    """The table as a run without further variables makes it."""
    fleet.converged()
    return fleet.server.table()


@pytest.fixture
def closed(fleet: Fleet, rules: str) -> Fleet:
    """The fleet with these rules in place."""
    if fleet.server.table() != rules or fleet.server.do("systemctl", "is-enabled", "--quiet", UNIT).status != 0:
        fleet.converged()
    return fleet


@pytest.fixture
def foreign(closed: Fleet) -> Iterator[str]:
    """Tables of somebody else, as they were before; they must be the same afterwards."""
    closed.server.read("sh", "-c", f"printf '%s' '{FOREIGN}' | nft -f -")
    yield foreign_tables(closed.server)
    closed.server.read("sh", "-c", "nft delete table inet own_firewall; nft delete table ip nat")


def foreign_tables(host: Host) -> str:
    return host.read("sh", "-c", "nft list table inet own_firewall; nft list table ip nat")


def test_where_servers_listen_on_loopback_nothing_is_installed(fleet: Fleet) -> None:
    done = fleet.converged(bind="127.0.0.1")
    assert "changed=0" in done.output
    assert fleet.server.do("sh", "-c", "command -v nft").output == ""


def test_check_mode_tells_what_would_be_done_and_does_nothing(fleet: Fleet) -> None:
    done = fleet.converge("--check")
    assert done.status == 0, done.output
    assert "changed=0" not in done.output
    assert f"tcp dport != {{ {PORTS[0]}, {PORTS[1]} }} accept" in done.output
    assert fleet.server.do("ls", *FILES).status != 0
    assert fleet.client.connect(fleet.server.address) == "open"


def test_a_second_run_changes_nothing(closed: Fleet) -> None:
    assert "changed=0" in closed.converged().output
    assert "changed=0" in closed.converge("--check").output


@pytest.mark.parametrize("port", PORTS)
def test_others_are_refused_at_once_and_the_gateway_is_not(closed: Fleet, port: int) -> None:
    address = closed.server.address
    assert closed.client.connect(address, port) == "refused"
    assert closed.gateway.connect(address, port) == "open"
    assert [closed.server.connect(own, port) for own in ("127.0.0.1", "::1", address)] == ["open"] * 3


def test_other_ports_stay_as_they_are(closed: Fleet) -> None:
    assert closed.client.connect(closed.server.address, OTHER_PORT) == "open"


def test_the_same_holds_for_ipv6(closed: Fleet) -> None:
    assert [host.connect("fd42::1") for host in (closed.client, closed.gateway)] == ["refused", "refused"]
    closed.converged(model_firewall_admitted=["fd42::2"])
    assert [host.connect("fd42::1") for host in (closed.client, closed.gateway)] == ["refused", "open"]


def test_further_networks_are_admitted_as_long_as_they_are_declared(closed: Fleet) -> None:
    network = f"{closed.client.address}/31"
    assert "changed=0" not in closed.converged(model_firewall_admitted=[network]).output
    assert closed.client.connect(closed.server.address) == "open"
    closed.converged()
    assert closed.client.connect(closed.server.address) == "refused"


def test_tables_of_others_are_left_alone(closed: Fleet, foreign: str) -> None:
    closed.converged(model_firewall_admitted=["203.0.113.0/24"])
    assert foreign_tables(closed.server) == foreign
    closed.converged(model_firewall_enabled=False)
    assert foreign_tables(closed.server) == foreign


@pytest.mark.parametrize(
    "damage",
    [
        "flush table inet vllm_fleet",
        "delete table inet vllm_fleet",
        "flush ruleset",
        "insert rule inet vllm_fleet input accept",
        "add element inet vllm_fleet admitted { 198.51.100.1 }",
    ],
)
def test_rules_that_somebody_changed_in_the_kernel_are_restored(closed: Fleet, rules: str, damage: str) -> None:
    closed.server.read("nft", *damage.split())
    assert closed.server.table() != rules
    assert "changed=1" in closed.converged().output
    assert closed.server.table() == rules


def test_check_mode_tells_that_they_would_be_restored(closed: Fleet) -> None:
    closed.server.read("nft", "flush", "table", "inet", "vllm_fleet")
    damaged = closed.server.table()
    assert "changed=1" in closed.converge("--check").output
    assert closed.server.table() == damaged


@pytest.mark.parametrize("verb", ["reload", "restart"])
def test_the_rules_come_back_when_nftables_own_service_flushes_everything(closed: Fleet, rules: str, verb: str) -> None:
    closed.server.read("sh", "-c", "grep -q 'flush ruleset' /etc/nftables.conf && systemctl start nftables")
    closed.converged()
    closed.server.read("systemctl", verb, "nftables")
    assert closed.server.table() == rules
    closed.server.read("systemctl", "stop", "nftables")


def test_after_a_reboot_the_ports_are_closed_before_anybody_listens(closed: Fleet) -> None:
    assert run("scripts/lab", "--prefix", LAB, "reboot", "lab-1").status == 0
    wait_until(lambda: closed.gateway.connect(closed.server.address) == "open", 60)
    assert closed.client.connect(closed.server.address) == "refused"
    loaded, listening = (
        int(closed.server.read("systemctl", "show", "--value", "--property=ActiveEnterTimestampMonotonic", unit))
        for unit in (UNIT, f"stand-in@{PORTS[0]}.service")
    )
    assert 0 < loaded < listening
    assert "changed=0" in closed.converged().output


def test_a_port_that_a_server_leaves_is_closed_until_it_has_left(closed: Fleet) -> None:
    unit = "/etc/systemd/system/vllm-old.service"
    closed.server.read("sh", "-c", f"printf '{RUNNING}' > {unit}")
    closed.converged(entry="close")
    assert closed.client.connect(closed.server.address, OTHER_PORT) == "refused"
    closed.server.read("rm", unit)
    closed.converged()
    assert closed.client.connect(closed.server.address, OTHER_PORT) == "open"


def test_closing_removes_nothing_before_servers_are_back_on_loopback(closed: Fleet) -> None:
    assert "changed=0" in closed.converged(entry="close", bind="127.0.0.1").output
    assert closed.client.connect(closed.server.address) == "refused"


def test_a_gateway_whose_address_nobody_knows_is_refused_before_anything_changes(closed: Fleet, rules: str) -> None:
    done = closed.converge(model_firewall_admitted=["gw-9.example.invalid"])
    said = " ".join(done.output.split())
    assert done.status == 2
    assert "lab-1: model_firewall_admitted gw-9.example.invalid: this host does not know the name" in said, said
    assert closed.server.table() == rules


def test_open_servers_that_no_gateway_guards_are_a_warning(fleet: Fleet) -> None:
    code = "servers-open"
    assert f"code: {code}\n" in fleet.converged(hosts="alone.yml").output
    assert code not in fleet.converged(hosts="alone.yml", bind="127.0.0.1").output


@pytest.mark.parametrize(
    "unwanted",
    [{"model_firewall_enabled": False}, {"bind": "127.0.0.1"}, {"hosts": "alone.yml"}],
    ids=["switched off", "loopback", "no gateways"],
)
def test_rules_that_are_wanted_no_more_are_removed(closed: Fleet, unwanted: dict[str, Any]) -> None:
    checked = closed.converge("--check", **unwanted)
    assert (checked.status, closed.server.table() != "") == (0, True), checked.output
    assert "changed=0" not in checked.output
    closed.converged(**unwanted)
    assert closed.server.table() == ""
    assert closed.server.do("ls", *FILES).output.count("No such file") == len(FILES)
    assert closed.client.connect(closed.server.address) == "open"
    assert "changed=0" in closed.converged(**unwanted).output


def test_rules_without_a_unit_are_removed_as_well(closed: Fleet) -> None:
    closed.server.read("sh", "-c", f"systemctl disable {UNIT} && rm {FILES[1]} && systemctl daemon-reload")
    assert "changed=0" not in closed.converge("--check", model_firewall_enabled=False).output
    closed.converged(model_firewall_enabled=False)
    assert closed.server.table() == ""
