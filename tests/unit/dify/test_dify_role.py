"""The role writes sheets on the controller once, check mode tells the truth, and no secret is shown."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.fake_dify import EMAIL, PASSWORD, FakeDify, serve
from tests.unit.dify.dify_plan import SECRET, plan
from vllm_fleet.dify.sheet import as_markdown, make_sheet

ROOT = Path(__file__).resolve().parents[3]
# The role gateway's place is taken by its facts; no host is contacted.
PLAYBOOK = [
    {
        "hosts": "all",
        "gather_facts": False,
        "vars": {
            "gateway_plan": "{{ a_plan | combine({'host': inventory_hostname}) }}",
            "gateway_secrets": {"keys": {"default": [SECRET, "former"]}, "ca_file": "/ca.pem"},
        },
        "roles": ["dify"],
    }
]


class Runs:
    """Runs of the role on hosts that do not exist."""

    hosts = "gw-1,"

    def __init__(self, directory: Path) -> None:
        self.directory, self.sheets = directory, directory / "state" / "dify"
        (directory / "play.json").write_text(json.dumps(PLAYBOOK))

    def __call__(self, *options: str, **variables: Any) -> tuple[dict[str, int], str]:
        """Run it; return the changed tasks by host, and all that was printed."""
        given = self.directory / "variables.json"
        known = {"a_plan": plan(), "dify_output_directory": str(self.sheets)}
        given.write_text(json.dumps({**known, **variables}))
        command = [sys.executable, "-m", "ansible", "playbook", str(self.directory / "play.json"), "-i", self.hosts]
        environment = os.environ | {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"}
        done = subprocess.run(
            [*command, "-e", f"@{given}", "-v", *options], capture_output=True, text=True, env=environment, check=False
        )
        text = done.stdout + done.stderr
        changed = {host: int(count) for host, count in re.findall(r"^(\S+) +: ok=.*?changed=(\d+)", done.stdout, re.M)}
        return (changed if done.returncode == 0 else {}), text


@pytest.fixture
def run(tmp_path: Path) -> Runs:
    return Runs(tmp_path)


def test_sheets_are_written_once_for_their_owner_only_and_check_mode_says_what_would_change(run: Runs) -> None:
    promised, _ = run("--check")
    assert promised["gw-1"] > 0
    assert not run.sheets.exists()

    written, text = run()
    assert written == {"gw-1": 3}
    assert f"{run.sheets}/gw-1.md" in text
    expected = make_sheet(plan(host="gw-1"), ca_file="/ca.pem")
    assert json.loads((run.sheets / "gw-1.json").read_text()) == expected
    assert (run.sheets / "gw-1.md").read_text() == as_markdown(expected)
    assert {stat.S_IMODE(path.stat().st_mode) for path in run.sheets.iterdir()} == {0o600}
    assert SECRET not in text + "".join(path.read_text() for path in run.sheets.iterdir())

    assert run()[0] == {"gw-1": 0}
    changed, text = run("--check", "--diff", a_plan=plan(base_url="https://10.0.0.9:8443"))
    assert changed == {"gw-1": 2}
    assert "https://10.0.0.9:8443/v1" in text
    assert json.loads((run.sheets / "gw-1.json").read_text()) == expected


def test_models_are_entered_once_from_the_first_gateway_and_no_secret_is_shown(run: Runs) -> None:
    run.hosts = "gw-1,gw-2,"
    with serve(FakeDify()) as dify:
        wanted = {"dify_console_url": dify.url, "dify_console_email": EMAIL, "dify_console_password": PASSWORD}
        wanted |= {"dify_sheet_with_key": True}
        promised, _ = run("--check", **wanted)
        assert dify.changes == []
        entered, text = run("-vvv", "--diff", **wanted)
        again, quiet = run(**wanted)
    assert promised == {"gw-1": 2, "gw-2": 0}  # the directory and the models
    assert entered == {"gw-1": 4, "gw-2": 2}
    assert again == {"gw-1": 0, "gw-2": 0}
    assert dify.stored("rerank")["api_key"] == SECRET
    assert "create rerank tiny-reranker" in text
    assert "all models are as they should be" in quiet
    assert SECRET in (run.sheets / "gw-1.json").read_text()
    assert SECRET not in (run.sheets / "gw-1.md").read_text()
    assert not any(secret in text + quiet for secret in (SECRET, PASSWORD))


def test_a_console_without_a_way_in_is_refused_before_anything_is_written(run: Runs) -> None:
    changed, text = run(dify_console_url="https://dify")
    assert changed == {}
    assert "Set dify_console_email and dify_console_password" in text
    assert not run.sheets.exists()


def test_a_dify_that_is_too_old_is_left_alone_and_said(run: Runs) -> None:
    with serve(FakeDify(version="1.8.0")) as dify:
        changed, text = run(dify_console_url=dify.url, dify_console_email=EMAIL, dify_console_password=PASSWORD)
    assert dify.changes == []
    assert changed == {}
    assert "is version 1.8.0" in text
    assert "What to enter by hand:" in text
