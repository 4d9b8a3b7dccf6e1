"""inventory/lab: what Ansible is told about a lab. It imports nothing of the package, so it has to be held to it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from vllm_fleet.lab import host, settings, state, wanted

SCRIPT = Path(__file__).resolve().parents[3] / "inventory/lab/hosts.py"


def listed(places: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), "--list"]
    return subprocess.run(command, env=places, capture_output=True, text=True, check=False)


def make(lab: settings.Settings, group: str, *names: str) -> None:
    """Note hosts of a group as made, with addresses of their own."""
    for name in names:
        address = f"10.213.0.{2 + len(state.read_hosts(lab))}"
        state.write_host(lab, state.Host(name, address, "0" * 32, "/images/base", group=group))


@pytest.fixture
def lab(tmp_path: Path) -> settings.Settings:
    return settings.Settings("mine", tmp_path / "state", tmp_path / "cache")


@pytest.fixture
def places(lab: settings.Settings) -> dict[str, str]:
    return {"VLLM_FLEET_LAB": lab.prefix, "VLLM_FLEET_LAB_STATE": str(lab.state)}


def test_hosts_are_reached_the_way_the_lab_itself_reaches_them(lab: settings.Settings, places: dict[str, str]) -> None:
    make(lab, "gpu_hosts", "lab-1", "lab-2")
    inventory = json.loads(listed(places).stdout)
    assert inventory["gpu_hosts"]["hosts"] == ["lab-1", "lab-2"]
    assert inventory["_meta"]["hostvars"]["lab-2"] == {"ansible_host": "10.213.0.3"}
    variables = inventory["gpu_hosts"]["vars"]
    assert variables["ansible_ssh_private_key_file"] == str(lab.key)
    assert sorted(variables["ansible_ssh_common_args"].split()) == sorted(host.ssh_options(lab))


def members(listing: subprocess.CompletedProcess[str]) -> dict[str, list[str]]:
    """Return the hosts of each group, with those of its children."""
    groups = {name: group for name, group in json.loads(listing.stdout).items() if name != "_meta"}
    assert all(child in groups for group in groups.values() for child in group.get("children", []))
    return {
        name: sorted(
            [*group.get("hosts", []), *(host for child in group.get("children", []) for host in groups[child]["hosts"])]
        )
        for name, group in groups.items()
    }


def test_a_gpu_host_is_its_own_gateway(lab: settings.Settings, places: dict[str, str]) -> None:
    make(lab, "gpu_hosts", "lab-1", "lab-2")
    assert members(listed(places)) == {"gpu_hosts": ["lab-1", "lab-2"], "gateways": ["lab-1", "lab-2"]}


def test_hosts_for_gateways_take_that_from_the_gpu_hosts(lab: settings.Settings, places: dict[str, str]) -> None:
    make(lab, "gpu_hosts", "lab-1")
    make(lab, "gateways", "gateway-1", "gateway-2")
    make(lab, "clients", "client-1")
    assert members(listed(places)) == {
        "gpu_hosts": ["lab-1"],
        "gateways": ["gateway-1", "gateway-2"],
        "clients": ["client-1"],
    }


def test_hosts_of_every_group_are_reached_in_the_same_way(lab: settings.Settings, places: dict[str, str]) -> None:
    for group in wanted.GROUPS:
        make(lab, group, f"of-{group.replace('_', '-')}")
    inventory = json.loads(listed(places).stdout)
    variables = [inventory[group]["vars"] for group in wanted.GROUPS]
    assert variables == [variables[0]] * 3
    assert inventory["_meta"]["hostvars"]["of-clients"]["ansible_host"]


def test_a_host_made_before_there_were_groups_is_a_gpu_host(lab: settings.Settings, places: dict[str, str]) -> None:
    make(lab, "gpu_hosts", "lab-1")
    notes = lab.hosts / "lab-1/host.json"
    fields = json.loads(notes.read_text())
    del fields["group"]
    notes.write_text(json.dumps(fields))
    assert members(listed(places))["gpu_hosts"] == ["lab-1"]


def test_a_lab_without_a_gpu_host_is_answered_with_the_command_that_makes_one(
    lab: settings.Settings, places: dict[str, str]
) -> None:
    make(lab, "clients", "client-1")
    done = listed(places)
    assert (done.returncode, done.stdout) == (2, "")
    assert "no host in the group gpu_hosts to deploy to, only client-1. Make one with 'scripts/lab up" in done.stderr


def test_a_lab_that_is_not_up_is_answered_with_the_command_that_makes_it(places: dict[str, str]) -> None:
    done = listed(places)
    assert (done.returncode, done.stdout) == (2, "")
    assert "make quickstart" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_default_lab_is_the_one_scripts_lab_makes() -> None:
    defaults = settings.from_environment({})
    assert f'"{defaults.prefix}"' in SCRIPT.read_text()
    assert f'"{defaults.state}"' in SCRIPT.read_text()
