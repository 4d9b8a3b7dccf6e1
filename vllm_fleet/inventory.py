"""Ask Ansible what an inventory declares and what its hosts are like, so that nobody else has to interpret one."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vllm_fleet.errors import FleetError

ROOT = Path(__file__).resolve().parents[1]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Give a program the options that say whose hosts it looks at; `playbook_options` reads them."""
    parser.add_argument("-i", "--inventory", metavar="PATH", help="whose hosts; default: that of ansible.cfg")
    parser.add_argument("-l", "--limit", metavar="PATTERN", help="only these hosts")
    parser.add_argument(
        "-e", "--extra-vars", action="append", default=[], metavar="VARS", help="a variable, JSON or @file"
    )


def playbook_options(options: argparse.Namespace) -> list[str]:
    """Return the options of ansible-playbook that a program was given, but for the inventory."""
    limit = ["--limit", options.limit] if options.limit else []
    return [*limit, *(word for value in options.extra_vars for word in ("-e", value))]


def endpoints(inventory: str | None = None) -> dict[str, Any]:
    """Return the declared endpoints in the form ``scripts/verify --endpoints`` reads.

    Args:
        inventory: an inventory as for ``ansible-playbook -i``; None means the one of ansible.cfg.

    Raises:
        FleetError: Ansible could not say; the message holds its first complaint.
    """
    return _ask("endpoints.yml", "endpoints_file", inventory, (), "read the endpoints", failure_is_final=True)


def preflight(inventory: str | None = None, options: Sequence[str] = ()) -> dict[str, Any]:
    """Return what playbooks/preflight.yml found, in the form of ``vllm_fleet.preflight.report.as_json``.

    Args:
        inventory: as for `endpoints`.
        options: further options of ansible-playbook.

    Raises:
        FleetError: nothing could be looked at; findings are no failure.
    """
    return _ask("preflight.yml", "preflight_output", inventory, options, "look at the hosts", failure_is_final=False)


def plan(inventory: str | None = None, options: Sequence[str] = ()) -> dict[str, Any]:
    """Return what playbooks/plan.yml found, in the form of ``vllm_fleet.plan.report.hosts.as_json``.

    Args:
        inventory: as for `endpoints`.
        options: further options of ansible-playbook.

    Raises:
        FleetError: nothing could be planned; a refusal is no failure.
    """
    return _ask("plan.yml", "plan_output", inventory, options, "plan the hosts", failure_is_final=False)


def _ask(
    playbook: str, variable: str, inventory: str | None, options: Sequence[str], purpose: str, failure_is_final: bool
) -> dict[str, Any]:
    """Run a playbook that writes JSON to the file its `variable` names; return the JSON."""
    with tempfile.TemporaryDirectory(prefix="vllm-fleet-") as directory:
        file = Path(directory, "answer.json")
        command = [
            *(sys.executable, "-m", "ansible", "playbook", str(ROOT / "playbooks" / playbook)),
            *options,
            *("-e", json.dumps({variable: str(file)})),
            *(("-i", inventory) if inventory else ()),
        ]
        environment = os.environ | {
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_FORCE_COLOR": "0",
        }
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        if file.exists() and (done.returncode == 0 or not failure_is_final):
            answer: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
            return answer
    which = f"inventory {inventory}" if inventory else "the default inventory"
    raise FleetError(f"cannot {purpose} of {which}: {_complaint(done.stdout, done.stderr)}")


def _complaint(stdout: str, stderr: str) -> str:
    """Return the lines of Ansible's output that say what is wrong."""
    text = stderr.strip() or stdout.strip()
    known = ("PLAY", "TASK", "ok:", "[WARNING]: Could not match supplied host pattern")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith(known)]
    return "\n".join(lines[:12]) if lines else "no host of group gpu_hosts is in it"
