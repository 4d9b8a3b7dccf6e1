"""The role gpu_health on a real host without a GPU: it says so in one sentence, and runs as the servers would."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import yaml

from tests.integration.conftest import ROOT, LabHost, run

pytestmark = pytest.mark.integration

PROVE = """
- hosts: gpu_hosts
  gather_facts: false
  roles:
    - gpu_health
"""
VARS = yaml.safe_load((ROOT / "roles/model_server/vars/main.yml").read_text())
SANDBOX = VARS["__model_server_devices"]["cuda"] + VARS["__model_server_hardening"]
AS_USER = [
    {
        "hosts": "gpu_hosts",
        "gather_facts": False,
        "tasks": [
            {
                "ansible.builtin.include_role": {"name": "gpu_health", "tasks_from": "service_user"},
                "vars": {"gpu_health_as_user": "games", "gpu_health_sandbox": SANDBOX},
            }
        ],
    }
]


@pytest.mark.parametrize("mode", ["--check", "--diff"])
def test_a_host_without_a_gpu_is_refused_in_one_sentence(lab_host: LabHost, tmp_path: Path, mode: str) -> None:
    path = tmp_path / "prove.yml"
    path.write_text(PROVE)
    began = time.monotonic()
    done = run("ansible-playbook", path, mode)
    assert done.status == 2
    assert "lab-1: no NVIDIA driver on this host" in " ".join(done.output.split()), done.output
    assert "health-no-driver" in done.output
    assert "changed=0" in done.output
    assert time.monotonic() - began < 30


def test_the_proof_runs_as_the_service_user_in_the_sandbox_of_the_servers(lab_host: LabHost, tmp_path: Path) -> None:
    path = tmp_path / "as-user.yml"
    path.write_text(yaml.safe_dump(AS_USER))
    done = run("ansible-playbook", path)
    said = " ".join(done.output.split())
    assert done.status == 2, done.output
    # It is the library that is missing: systemd took every property, and Python ran within it.
    assert "as games in the sandbox of the model servers load libcuda.so.1 fails (libcuda.so.1: cannot open" in said, (
        said
    )


@pytest.mark.parametrize(("pattern", "status"), [("char-m?m*", 0), ("char-nvidia*", 1)])
def test_a_pattern_opens_the_device_classes_it_matches_and_no_others(
    lab_host: LabHost, pattern: str, status: int
) -> None:
    unit = ["systemd-run", "--quiet", "--pipe", "--wait", "--collect", "--property=DevicePolicy=strict"]
    done = lab_host.do(*unit, f"--property=DeviceAllow={pattern} r", "head", "--bytes=1", "/dev/zero")
    assert done.status == status, done.output
