"""inventory/lab: what Ansible is told about a lab. It imports nothing of the package, so it has to be held to it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from vllm_fleet.lab import host, settings, state

SCRIPT = Path(__file__).resolve().parents[3] / "inventory/lab/hosts.py"


def listed(places: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), "--list"]
    return subprocess.run(command, env=places, capture_output=True, text=True, check=False)


@pytest.fixture
def lab(tmp_path: Path) -> settings.Settings:
    return settings.Settings("mine", tmp_path / "state", tmp_path / "cache")


@pytest.fixture
def places(lab: settings.Settings) -> dict[str, str]:
    return {"VLLM_FLEET_LAB": lab.prefix, "VLLM_FLEET_LAB_STATE": str(lab.state)}


def test_hosts_are_reached_the_way_the_lab_itself_reaches_them(lab: settings.Settings, places: dict[str, str]) -> None:
    for name, address in (("lab-1", "10.213.0.2"), ("lab-2", "10.213.0.3")):
        state.write_host(lab, state.Host(name, address, "0" * 32, "/images/base"))
    inventory = json.loads(listed(places).stdout)
    assert inventory["gpu_hosts"]["hosts"] == ["lab-1", "lab-2"]
    assert inventory["_meta"]["hostvars"]["lab-2"] == {"ansible_host": "10.213.0.3"}
    variables = inventory["gpu_hosts"]["vars"]
    assert variables["ansible_ssh_private_key_file"] == str(lab.key)
    assert sorted(variables["ansible_ssh_common_args"].split()) == sorted(host.ssh_options(lab))


def test_a_lab_that_is_not_up_is_answered_with_the_command_that_makes_it(places: dict[str, str]) -> None:
    done = listed(places)
    assert (done.returncode, done.stdout) == (2, "")
    assert "make quickstart" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_default_lab_is_the_one_scripts_lab_makes() -> None:
    defaults = settings.from_environment({})
    assert f'"{defaults.prefix}"' in SCRIPT.read_text()
    assert f'"{defaults.state}"' in SCRIPT.read_text()
