"""The modules that run long commands and watch the package manager, as far as they need no systemd."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.load import load

job = load("plugins/modules/systemd_job.py")
idle = load("plugins/modules/package_manager_idle.py")

HOLD = """
import fcntl, sys, time
file = open(sys.argv[1], "w")
fcntl.lockf(file, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(60)
"""


def unit(**properties: str) -> dict[str, str]:
    return {"LoadState": "loaded", "SubState": "", "Result": "", **properties}


@pytest.mark.parametrize(
    ("properties", "state"),
    [
        ({"LoadState": "not-found", "ActiveState": "inactive"}, "none"),
        (unit(ActiveState="activating", SubState="start"), "running"),
        (unit(ActiveState="active", SubState="running"), "running"),
        (unit(ActiveState="active", SubState="exited"), "done"),
        (unit(ActiveState="failed", SubState="failed"), "failed"),
    ],
)
def test_the_state_of_a_job_is_that_of_its_unit(properties: dict[str, str], state: str) -> None:
    assert job.state_of(properties) == state


def test_a_job_gets_only_the_variables_it_is_meant_to_have() -> None:
    session = {"PIP_INDEX_URL": "u", "https_proxy": "p", "SECRET": "s"}
    assert job.inherited(session, ["PIP_*", "*_proxy"]) == {"PIP_INDEX_URL": "u", "https_proxy": "p"}


def test_quotes_and_backslashes_survive_in_a_jobs_environment() -> None:
    assert job.environment_file({"A": 'say "hi"', "B": "c:\\d"}) == 'A="say \\"hi\\""\nB="c:\\\\d"\n'


def test_secrets_are_never_readable_to_others(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        job.write_private(tmp_path / "token", "secret")
    finally:
        os.umask(before)
    assert (tmp_path / "token").stat().st_mode & 0o777 == 0o600


def test_the_holder_of_a_lock_is_found_and_named(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(lock)], stdout=subprocess.PIPE, text=True) as holding:
        assert holding.stdout is not None
        holding.stdout.readline()
        assert idle.holder(lock) == holding.pid
        assert idle.process_name(holding.pid).startswith("python")
        holding.kill()
    assert idle.holder(lock) is None


def test_a_lock_that_is_not_there_is_held_by_nobody(tmp_path: Path) -> None:
    assert idle.holder(tmp_path / "lock") is None


def test_cloud_init_runs_until_it_has_written_its_result(tmp_path: Path) -> None:
    assert not idle.cloud_init_runs(tmp_path)
    (tmp_path / "enabled").touch()
    assert idle.cloud_init_runs(tmp_path)
    (tmp_path / "result.json").touch()
    assert not idle.cloud_init_runs(tmp_path)
