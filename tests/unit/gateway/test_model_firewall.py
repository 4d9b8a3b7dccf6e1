"""The rules before the model servers' ports, as text; how they act is tried on hosts (tests/integration)."""

from __future__ import annotations

import ast

import pytest

from tests.load import ROOT, load

facts = load("plugins/modules/model_firewall_facts.py")
from ansible.module_utils.model_firewall import admitted, ruleset  # noqa: E402 - found by load

KNOWN = {"gw-1.example.org": ["192.0.2.5", "2001:db8::5"], "here": ["127.0.1.1"]}


def lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines()]


@pytest.mark.parametrize("path", ["plugins/modules/model_firewall_facts.py", "plugins/module_utils/model_firewall.py"])
def test_what_runs_on_hosts_is_python_3_8(path: str) -> None:
    ast.parse((ROOT / path).read_text(), feature_version=(3, 8))


def test_both_families_are_admitted_and_networks_that_overlap_are_one() -> None:
    written = lines(ruleset([32806, 32804], ["10.0.0.0/8", "10.1.2.3", "192.0.2.5/32", "2001:db8::5"]))
    assert "elements = { 10.0.0.0/8, 192.0.2.5 }" in written
    assert "elements = { 2001:db8::5 }" in written
    assert "tcp dport != { 32804, 32806 } accept" in written


def test_a_set_without_elements_is_written_without_that_line() -> None:
    assert "elements" not in ruleset([32804], [])


def test_the_file_replaces_its_own_table_and_names_no_other() -> None:
    written = lines(ruleset([32804], []))
    assert written[:2] == ["table inet vllm_fleet", "delete table inet vllm_fleet"]
    assert [line for line in written if line.startswith("table") and "vllm_fleet" not in line] == []
    assert "flush" not in ruleset([32804], [])


def test_names_are_admitted_with_all_their_addresses() -> None:
    wanted = {"gateway a": "192.0.2.9", "gateway b": "gw-1.example.org", "c": "198.51.100.0/24"}
    networks, reasons = admitted(wanted, lambda name: KNOWN.get(name, []))
    assert networks == ["192.0.2.9/32", "192.0.2.5", "2001:db8::5", "198.51.100.0/24"]
    assert reasons == []


def test_every_gateway_that_cannot_be_admitted_is_named() -> None:
    wanted = {"gateway a": "gw-9", "gateway b": "127.0.0.1", "gateway c": "here"}
    _, reasons = admitted(wanted, lambda name: KNOWN.get(name, []))
    assert reasons == [
        "gateway a: this host does not know the name gw-9",
        "gateway b: 127.0.0.1 is a loopback address, from which nobody comes to another host",
        "gateway c: here is a loopback address, from which nobody comes to another host",
    ]


def test_what_keeps_the_ports_from_being_closed_is_said_with_its_remedy() -> None:
    assert facts.findings([], "", installable=True) == []
    (unknown,) = facts.findings(["gateway a: this host does not know the name gw-9"], "", installable=True)
    assert (unknown["code"], unknown["severity"]) == ("firewall-admission", "error")
    assert "ansible_host" in unknown["message"]
    refused, missing = facts.findings([], "Error: no such thing", installable=False)
    assert {refused["code"], missing["code"]} == {"firewall-rules"}
    assert "Error: no such thing" in refused["message"]
    assert "Install nftables." in missing["message"]
