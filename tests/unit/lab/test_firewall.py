"""Firewalls: which chains would swallow a lab's packets, and which rules are a lab's own."""

from __future__ import annotations

import json

from vllm_fleet.lab.firewall import Chain, dropping, own_rules


def chain(name: str, hook: str = "forward", policy: str = "drop", family: str = "ip") -> dict[str, object]:
    return {"chain": {"family": family, "table": "filter", "name": name, "hook": hook, "policy": policy}}


def test_only_forwarding_chains_that_drop_ipv4_matter() -> None:
    entries = [
        {"metainfo": {"version": "1.0.6"}},
        chain("FORWARD"),
        chain("INPUT", hook="input"),
        chain("accepting", policy="accept"),
        chain("six", family="ip6"),
        chain("both", family="inet"),
        {"chain": {"family": "ip", "table": "filter", "name": "DOCKER"}},
    ]
    found = dropping(json.dumps({"nftables": entries}))
    assert found == [Chain("ip", "filter", "FORWARD"), Chain("inet", "filter", "both")]


def test_rules_of_another_lab_are_not_taken_for_ones_own() -> None:
    rule = {"family": "inet", "table": "t", "chain": "c"}
    entries = [
        {"rule": {**rule, "handle": 4, "comment": "vllm-fleet lab fleet"}},
        {"rule": {**rule, "handle": 5, "comment": "vllm-fleet lab fleet2"}},
        {"rule": {**rule, "handle": 6}},
    ]
    assert own_rules(json.dumps({"nftables": entries}), "vllm-fleet lab fleet") == [(Chain("inet", "t", "c"), 4)]
