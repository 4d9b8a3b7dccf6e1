"""scripts/dify takes its secrets by standard input, and shows none."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from tests.fake_dify import EMAIL, PASSWORD, FakeDify, serve
from tests.unit.dify.dify_plan import SECRET, plan
from vllm_fleet.dify.cli import main
from vllm_fleet.dify.sheet import as_markdown, make_sheet


def run(monkeypatch: pytest.MonkeyPatch, given: object, *arguments: str) -> int:
    monkeypatch.setattr("sys.stdin", io.StringIO(given if isinstance(given, str) else json.dumps(given)))
    return main(arguments)


def registration(dify: FakeDify, **changes: Any) -> dict[str, Any]:
    login = {"url": dify.url, "email": EMAIL, "password": PASSWORD, "admin_key": "", "workspace": "", "ca_file": None}
    return {"sheet": make_sheet(plan()), "api_key": SECRET, "login": login, **changes}


def test_it_prints_the_sheet(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, {"plan": plan(), "ca_file": "/ca.pem"}, "sheet") == 0
    assert capsys.readouterr().out == as_markdown(make_sheet(plan(), ca_file="/ca.pem"))
    assert run(monkeypatch, {"plan": plan()}, "sheet", "--json") == 0
    assert json.loads(capsys.readouterr().out) == make_sheet(plan())


def test_it_enters_models_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with serve(FakeDify()) as dify:
        assert run(monkeypatch, registration(dify), "register", "--check") == 0
        would = json.loads(capsys.readouterr().out)
        assert run(monkeypatch, registration(dify), "register") == 0
        did = json.loads(capsys.readouterr().out)
        assert run(monkeypatch, registration(dify), "register") == 0
        again = json.loads(capsys.readouterr().out)
    assert would == did
    assert (did["version"], did["changed"], len(did["changes"])) == ("1.14.2", True, 3)
    assert again == {"version": "1.14.2", "changed": False, "changes": []}


@pytest.mark.parametrize("version", ["1.9.2", None])
def test_an_unsupported_dify_is_left_alone_unless_forced(
    version: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with serve(FakeDify(version=version)) as dify:
        assert run(monkeypatch, registration(dify), "register") == 1
        assert "Nothing was changed" in capsys.readouterr().err
        assert {path for _, path in dify.log} <= {"/health", "/console/api/setup"}
        assert run(monkeypatch, registration(dify, force=True), "register") == 0


def test_no_secret_is_shown(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with serve(FakeDify(breaks_csrf=True)) as dify:
        assert run(monkeypatch, registration(dify), "register") == 1
    shown = "".join(capsys.readouterr())
    assert "CSRF" in shown
    assert not any(secret in shown for secret in (SECRET, PASSWORD, "csrf_token=csrf"))


@pytest.mark.parametrize(("given", "words"), [("", "JSON object"), ("[]", "JSON object"), ("{}", "'plan' is missing")])
def test_input_that_is_not_what_it_needs_is_said(
    given: str, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, given, "sheet") == 1
    assert words in capsys.readouterr().err
