"""Subnets: a lab takes one that nothing on the machine uses."""

from __future__ import annotations

import json
from ipaddress import IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllm_fleet.errors import FleetError
from vllm_fleet.lab import network, state

PREFIXES = st.from_regex(r"[a-z][a-z0-9]{0,11}", fullmatch=True)
SUBNETS = list(network.RANGE.subnets(new_prefix=24))


@given(prefix=PREFIXES, in_use=st.lists(st.sampled_from(SUBNETS), max_size=40))
def test_a_chosen_subnet_overlaps_nothing_in_use(prefix: str, in_use: list[IPv4Network]) -> None:
    chosen = network.choose(prefix, in_use)
    assert chosen.prefixlen == 24
    assert not any(chosen.overlaps(other) for other in in_use)


@given(prefix=PREFIXES)
def test_a_prefix_gets_the_same_subnet_every_time_while_it_is_free(prefix: str) -> None:
    assert network.choose(prefix, []) == network.choose(prefix, [IPv4Network("192.168.0.0/16")])


def test_a_machine_that_routes_the_whole_range_is_told_so() -> None:
    with pytest.raises(FleetError, match=r"Every /24 of 10\.213\.0\.0/16 is routed"):
        network.choose("fleet", [IPv4Network("10.0.0.0/8")])


def test_default_routes_do_not_count_as_in_use_but_any_other_destination_does() -> None:
    routes = [
        {"dst": "default"},
        {"dst": "0.0.0.0/1"},
        {"dst": "10.213.9.0/24"},
        {"dst": "10.213.4.1"},
        {"type": "local"},
    ]
    assert network.routed(json.dumps(routes)) == [IPv4Network("10.213.9.0/24"), IPv4Network("10.213.4.1/32")]


def test_the_first_host_gets_the_address_after_the_machines_own() -> None:
    subnet = IPv4Network("10.213.9.0/24")
    assert state.next_address(subnet, set()) == "10.213.9.2"
    assert state.next_address(subnet, {"10.213.9.2", "10.213.9.4"}) == "10.213.9.3"


def test_a_full_subnet_is_a_sentence() -> None:
    subnet = IPv4Network("10.213.9.0/30")
    with pytest.raises(FleetError, match="All addresses of the lab's network"):
        state.next_address(subnet, {"10.213.9.2"})
