"""`scripts/plan`, run as a user runs it, on hosts that are nowhere; and what it shows of a given report."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.load import ROOT
from tests.unit.plan.report.examples import many_hosts, one_host
from vllm_fleet import inventory
from vllm_fleet.plan import cli
from vllm_fleet.plan.report.hosts import Report, as_json

NOWHERE = {"ansible_host": "127.0.0.1", "ansible_port": 1, "ansible_ssh_retries": 0}


def hosts(directory: Path, **those: dict[str, Any]) -> str:
    file = directory / "hosts.json"
    file.write_text(json.dumps({"gpu_hosts": {"hosts": those}}))
    return str(file)


def plan(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "vllm_fleet.plan", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


def test_a_host_that_cannot_be_reached_is_refused_with_the_reason(tmp_path: Path) -> None:
    done = plan("-i", hosts(tmp_path, gone=NOWHERE))
    assert done.returncode == 1, done.stdout + done.stderr
    assert "gone\n  error  host: The host cannot be reached: nothing listens on its SSH port" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("1 of 1 host refused for 1 error")
    assert done.stderr == ""


def test_what_if_asks_no_host_and_compares_with_none(tmp_path: Path) -> None:
    """The default declaration, on GPUs that nobody has, for hosts that are nowhere."""
    whose = hosts(tmp_path, first=NOWHERE, second=NOWHERE)
    done = plan("-i", whose, "--what-if", "gpus=2xL40S", "-e", "serving_plan_ask_hub=false", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["what_if"] == "2xL40S"
    for host in report["hosts"]:
        assert [device["name"] for device in host["plan"]["devices"]] == ["NVIDIA L40S"] * 2
        assert [server["name"] for server in host["plan"]["servers"]] == ["llm", "embedding", "rerank"]
        assert all(server["memory"]["kv_tokens"] > 0 for server in host["plan"]["servers"] if server["kind"] == "llm")
        assert host["differences"] is None


@pytest.mark.parametrize(
    ("whose", "sentence"),
    [
        ("no-such-inventory", "cannot plan the hosts of inventory no-such-inventory"),
        ("other,", "no host of group gpu_hosts"),
    ],
)
def test_what_cannot_be_looked_at_says_why_and_gives_status_2(whose: str, sentence: str) -> None:
    done = plan("-i", whose)
    assert (done.returncode, done.stdout) == (2, "")
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("what_if", "sentence"),
    [
        ("memory=80", "only gpus can be others, such as gpus=4xL40S; found memory"),
        ("4xL40T", "no GPU is known by the name 'L40T'; did you mean L40?"),
        ("gpus=0xL4", "expected at least one GPU"),
    ],
)
def test_gpus_that_nobody_knows_are_refused_before_anybody_is_asked(
    what_if: str, sentence: str, asked: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["--what-if", what_if])
    assert (ended.value.code, asked) == (2, [])
    assert sentence in capsys.readouterr().err


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Stands in for Ansible: what it was asked is collected, the answer is the report of one host."""
    questions: list[Any] = []

    def answer(of: str | None, options: list[str]) -> dict[str, Any]:
        questions.append((of, options))
        return as_json(many_hosts(5) if of == "many" else one_host())

    monkeypatch.setattr(inventory, "plan", answer)
    return questions


def test_options_reach_ansible(asked: list[Any]) -> None:
    cli.main(["-i", "x", "-l", "gpu-1", "-e", "a=1", "-e", "@b", "--what-if", "gpus=4xL40S", "--json"])
    what_if = ["-e", '{"serving_plan_what_if": "4xL40S"}']
    assert asked == [("x", ["--limit", "gpu-1", "-e", "a=1", "-e", "@b", *what_if])]


@pytest.mark.usefixtures("asked")
def test_every_form_is_written_and_the_status_says_whether_a_host_was_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {form: tmp_path / "new" / f"plan.{form}" for form in ("output", "html", "svg")}
    arguments = [word for form, file in files.items() for word in (f"--{form}", str(file))]
    assert cli.main([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(files["output"].read_text()) == as_json(one_host())
    assert files["html"].read_text().startswith("<!doctype html>")
    assert files["svg"].read_text().startswith("<svg ")
    assert cli.main(["-i", "many"]) == 1
    assert "5 hosts" in capsys.readouterr().out


@pytest.mark.parametrize(("encoding", "bar"), [("utf-8", "██"), ("ascii", "##"), ("latin-1", "##")])
def test_bars_fit_the_encoding_of_standard_output(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], encoding: str, bar: str
) -> None:
    monkeypatch.setattr(sys, "stdout", open(1, "w", encoding=encoding, closefd=False))  # noqa: SIM115
    assert bar in cli._shown(Report(one_host().hosts))
