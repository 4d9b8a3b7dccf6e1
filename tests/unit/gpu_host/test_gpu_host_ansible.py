"""The module as Ansible ships and runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests import hosts
from tests.hosts.replay import facts
from tests.load import ROOT


def test_ansible_ships_all_of_the_module_and_reads_the_host_in_check_mode(tmp_path: Path) -> None:
    root = hosts.build(hosts.named("h200x2"), tmp_path)
    done = subprocess.run(
        [
            *(str(Path(sys.executable).parent / "ansible"), "localhost", "-i", "localhost,", "-c", "local", "--check"),
            *("-e", f"ansible_python_interpreter={sys.executable}", "-m", "gpu_host_facts", "-a", f"root={root}"),
        ],
        env={
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.minimal",
            "ANSIBLE_CALLBACK_RESULT_FORMAT": "json",
        },
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout.partition("=>")[2])
    assert told["changed"] is False
    assert told["ansible_facts"]["gpu_host"] == facts("h200x2")
