"""Codes are a promise: each is raised by a test, documented, and used by whoever the table says."""

from __future__ import annotations

import re

import pytest

from tests.load import ROOT
from tests.unit.preflight.test_fact_findings import CASES
from vllm_fleet.preflight.codes import CODES, table
from vllm_fleet.preflight.findings import Severity, error, repaired

RAISED = r'(?:error|warning|finding)\(\s*"([a-z0-9]+(?:-[a-z0-9]+)*)",'
ELSEWHERE = [code for code in CODES.values() if code.source != "preflight"]


def test_every_code_of_the_facts_has_a_case_of_each_of_its_severities() -> None:
    expected = {
        (code.code, Severity(severity))
        for code in CODES.values()
        if "preflight" in code.source
        for severity in code.severity.split(" or ")
    }
    assert {(case.code, case.severity) for case in CASES} == expected


@pytest.mark.parametrize("code", ELSEWHERE, ids=lambda code: code.code)
def test_every_other_code_is_expected_by_some_test(code: object) -> None:
    name = getattr(code, "code", "")
    files = [*(ROOT / "tests").rglob("test_*.py")]
    assert [file.name for file in files if re.search(rf'"{name}[":]', file.read_text())]


def test_modules_use_no_code_that_is_not_registered() -> None:
    files = [*(ROOT / "plugins").rglob("*.py"), *(ROOT / "vllm_fleet").rglob("*.py")]
    used = {code for file in files for code in re.findall(RAISED, file.read_text())}
    assert len(used) > 10
    assert used <= set(CODES)


def test_codes_are_kebab_case_and_said_in_sentences() -> None:
    for code in CODES.values():
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", code.code)
        assert code.meaning.endswith(".")
        assert code.remedy.endswith(".")
        assert "|" not in code.meaning + code.remedy


def test_the_documentation_lists_every_code() -> None:
    assert table() in (ROOT / "docs/preflight.md").read_text(), "put vllm_fleet.preflight.codes.table() there"


def test_a_code_that_is_not_registered_cannot_be_raised() -> None:
    with pytest.raises(KeyError):
        error("no-such-code", "It cannot be. Do nothing.")


def test_what_this_run_repairs_is_a_warning() -> None:
    assert repaired(True, "gpu-xid", "x").severity is Severity.WARNING
    assert repaired(False, "gpu-xid", "x").severity is Severity.ERROR
