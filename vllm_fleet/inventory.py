"""Ask Ansible what an inventory declares, so that nobody else has to interpret one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from vllm_fleet.errors import FleetError

ROOT = Path(__file__).resolve().parents[1]


def endpoints(inventory: str | None = None) -> dict[str, Any]:
    """Return the declared endpoints in the form ``scripts/verify --endpoints`` reads.

    Args:
        inventory: an inventory as for ``ansible-playbook -i``; None means the one of ansible.cfg.

    Raises:
        FleetError: Ansible could not say; the message holds its first complaint.
    """
    with tempfile.TemporaryDirectory(prefix="vllm-fleet-") as directory:
        file = Path(directory, "endpoints.json")
        command = [
            *(sys.executable, "-m", "ansible", "playbook", str(ROOT / "playbooks" / "endpoints.yml")),
            *("-e", json.dumps({"endpoints_file": str(file)})),
            *(("-i", inventory) if inventory else ()),
        ]
        environment = os.environ | {
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_FORCE_COLOR": "0",
        }
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        if done.returncode == 0 and file.exists():
            declared: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
            return declared
    which = f"inventory {inventory}" if inventory else "the default inventory"
    raise FleetError(f"cannot read the endpoints of {which}: {_complaint(done.stdout, done.stderr)}")


def _complaint(stdout: str, stderr: str) -> str:
    """Return the lines of Ansible's output that say what is wrong."""
    text = stderr.strip() or stdout.strip()
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith(("PLAY", "TASK", "ok:"))]
    return "\n".join(lines[:12]) if lines else "no host of group gpu_hosts is in it"
