"""What `scripts/lab up` is asked for: which hosts, in which group, with whose GPUs."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from vllm_fleet.errors import FleetError
from vllm_fleet.lab import cli, operations, settings, state, wanted

LAB = settings.Settings("fleet", Path("/state"), Path("/cache"))


def a_host(name: str, group: str = "gpu_hosts", fake_gpus: str = "") -> state.Host:
    return state.Host(name, "10.213.0.2", "0" * 32, "/images/base", (), fake_gpus, group)


@pytest.mark.parametrize(
    ("group", "name"), [("", "lab-1"), ("gpu_hosts", "lab-1"), ("gateways", "gateway-1"), ("clients", "client-1")]
)
def test_the_first_host_of_each_group_has_a_name_that_says_what_it_is(group: str, name: str) -> None:
    assert wanted.names_of([], [], group) == [name]


def test_without_names_all_hosts_are_meant_or_those_of_the_group() -> None:
    known = [a_host("a"), a_host("b", "clients"), a_host("c")]
    assert wanted.names_of([], known, "") == ["a", "b", "c"]
    assert wanted.names_of([], known, "gpu_hosts") == ["a", "c"]
    assert wanted.names_of([], known, "gateways") == ["gateway-1"]


def test_a_host_named_twice_is_made_once() -> None:
    assert wanted.names_of(["b", "a", "b"], [a_host("c")], "clients") == ["b", "a"]


@pytest.mark.parametrize(
    ("made", "asked", "way_out"),
    [
        ("gpu_hosts", "clients", "up --group clients one"),
        ("clients", "gateways", "up --group gateways one"),
        ("clients", "gpu_hosts", "up one"),
    ],
)
def test_another_group_than_it_was_made_in_is_refused_with_the_way_out(made: str, asked: str, way_out: str) -> None:
    expected = f"one was made in the group {made}. Make it anew: scripts/lab down one, then scripts/lab {way_out}"
    with pytest.raises(FleetError) as refusal:
        wanted.check_made(LAB, [a_host("one", made)], asked, "")
    assert str(refusal.value) == expected


@pytest.mark.parametrize("group", list(wanted.GROUPS))
def test_a_host_is_left_as_it_is_where_nothing_else_is_asked_for(group: str) -> None:
    for asked in ("", group):
        wanted.check_made(LAB, [a_host("one", group)], asked, "")


@pytest.mark.parametrize(("made", "has"), [("", "without fake GPUs"), ("t4", "with the fake GPUs of t4")])
def test_other_gpus_than_it_was_made_with_are_refused_with_the_way_out(made: str, has: str) -> None:
    one = a_host("lab-1", fake_gpus=made)
    with pytest.raises(FleetError, match=rf"was made {has}.*down lab-1.*up --fake-gpus l40s lab-1"):
        wanted.check_made(LAB, [one], "gpu_hosts", "l40s")
    wanted.check_made(LAB, [one], "", "")
    wanted.check_made(LAB, [one], "gpu_hosts", made)


def test_fake_gpus_are_for_gpu_hosts_only() -> None:
    assert (wanted.check_request("", "t4"), wanted.check_request("", "")) == ("gpu_hosts", "")
    with pytest.raises(FleetError, match="not those of clients"):
        wanted.check_request("clients", "t4")


def test_a_host_that_is_to_be_made_anew_is_made_as_it_was() -> None:
    assert wanted.up_words("client-1", "clients", "") == "up --group clients client-1"
    assert wanted.up_words("gpu-1", "gpu_hosts", "t4") == "up --fake-gpus t4 gpu-1"


def shown(*hosts: state.Host) -> str:
    output = io.StringIO()
    Console(file=output, width=120).print(cli._table([operations.HostStatus(one, "running") for one in hosts]))
    return output.getvalue()


def test_the_table_of_status_has_columns_for_what_is_unusual_only_where_it_is() -> None:
    plain, mixed = shown(a_host("lab-1")), shown(a_host("lab-1"), a_host("client-1", "clients"))
    assert plain.splitlines()[0].split() == ["host", "address", "condition", "base", "image"]
    assert mixed.splitlines()[0].split()[:3] == ["host", "group", "address"]
    assert mixed.splitlines()[2].split()[:3] == ["client-1", "clients", "10.213.0.2"]
