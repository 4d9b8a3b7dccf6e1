"""`scripts/preflight`, run as a user runs it, on hosts that are this machine or nowhere."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.load import ROOT

NOWHERE = {"ansible_host": "127.0.0.1", "ansible_port": 1, "ansible_ssh_retries": 0}
# Its Python is not there: nothing of this machine is looked at.
WITHOUT_PYTHON = {"ansible_connection": "local", "ansible_python_interpreter": "/no/such/python"}


def inventory(directory: Path, **hosts: dict[str, Any]) -> str:
    file = directory / "hosts.json"
    file.write_text(json.dumps({"gpu_hosts": {"hosts": hosts}}))
    return str(file)


def preflight(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "vllm_fleet.preflight", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def test_hosts_that_cannot_be_looked_at_are_findings_in_one_table(tmp_path: Path) -> None:
    done = preflight("-i", inventory(tmp_path, gone=NOWHERE, bare=WITHOUT_PYTHON))
    assert done.returncode == 1, done.stdout + done.stderr
    assert (
        "gone  error     host-unreachable  The host cannot be reached: nothing listens on its SSH port" in done.stdout
    )
    assert "bare  error     host-unreadable   The host cannot be read: The module interpreter" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("2 errors on 2 of 2 hosts would stop the run")
    assert done.stderr == ""


def test_findings_are_printed_and_written_as_json(tmp_path: Path) -> None:
    output = tmp_path / "new" / "findings.json"
    hosts = inventory(tmp_path, gone=NOWHERE, bare=WITHOUT_PYTHON)
    done = preflight("-i", hosts, "--limit", "gone", "--json", "--output", str(output))
    assert done.returncode == 1
    report = json.loads(done.stdout)
    assert report == json.loads(output.read_text())
    assert [(host["name"], host["findings"][0]["code"]) for host in report["hosts"]] == [("gone", "host-unreachable")]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["-i", "no-such-inventory"], "cannot look at the hosts of inventory no-such-inventory"),
        (["-i", "other,"], "no host of group gpu_hosts"),
        (["--no-such-option"], "unrecognized arguments"),
    ],
)
def test_what_cannot_run_says_why_and_gives_status_2(arguments: list[str], sentence: str) -> None:
    done = preflight(*arguments)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


def test_the_help_tells_the_exit_statuses() -> None:
    done = preflight("--help")
    assert done.returncode == 0
    for words in ("--json", "--inventory", "0 nothing would stop the run", "docs/preflight.md"):
        assert words in " ".join(done.stdout.split())
