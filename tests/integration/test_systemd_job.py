"""The module systemd_job on a real host whose journal lags behind."""

from __future__ import annotations

import json

import pytest

from tests.integration.conftest import Done, LabHost, run

pytestmark = pytest.mark.integration

UNIT = "vllm-fleet-test-job"
# Ended before the journal has read a line of it, as a short job on a loaded host may be.
LATE_JOURNAL = f"""
journald=$(pidof systemd-journald)
kill -STOP $journald
until systemctl show --property=SubState {UNIT} | grep -q -e failed -e exited; do sleep 0.1; done
sleep 1
kill -CONT $journald
"""


def job(script: str) -> Done:
    """Run a shell script as a job, as one task that looks once."""
    arguments = {"name": UNIT, "description": "Test", "argv": ["/bin/sh", "-c", script], "waiter": script}
    return run("ansible", "lab-1", "--module-name=systemd_job", f"--args={json.dumps(arguments)}")


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo begun; echo '<3>the disk is full' >&2; exit 3", "failed: the disk is full\n(exit-code, status 3;"),
        ("echo begun; echo all is done", "msg: all is done\n"),
    ],
)
def test_what_a_job_said_last_is_told_though_the_journal_lags_behind(lab_host: LabHost, script: str, said: str) -> None:
    lab_host.read("systemd-run", "--quiet", "--collect", "sh", "-c", LATE_JOURNAL)
    assert said in job(script).output


def test_the_command_that_a_failure_names_shows_the_whole_story(lab_host: LabHost) -> None:
    output = job("echo begun; echo '<3>the disk is full' >&2; exit 3").output
    command = output.partition("the whole story: ")[2].partition(")")[0]
    assert lab_host.read(*command.split(), "--quiet", "--output=cat").splitlines() == ["begun", "the disk is full"]
