"""Whether what a host downloads from is there, asked before the first download."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.fake_hub import FakeHub, serve
from tests.load import load

repositories = load("plugins/module_utils/repositories.py")


def says(answer: str) -> Callable[[Sequence[str]], str]:
    return lambda argv: answer


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Debian host without a compiler."""
    monkeypatch.setattr(repositories.shutil, "which", lambda name: None if name == "cc" else f"/usr/bin/{name}")


@pytest.mark.usefixtures("no_compiler")
def test_a_compiler_that_no_package_list_has_is_found() -> None:
    (found,) = repositories.compiler_findings("g++", ["g++"], says("g++:\n  Installed: (none)\n  Candidate: (none)"))
    assert found["code"] == "compiler-missing"
    assert found["severity"] == "warning"


@pytest.mark.usefixtures("no_compiler")
def test_a_compiler_to_be_had_or_already_there_is_no_finding() -> None:
    assert repositories.compiler_findings("g++", ["g++"], says("g++:\n  Candidate: 4:12.2.0-3")) == []
    assert repositories.compiler_findings("g++", [], says("Candidate: (none)")) == []


def test_the_index_is_the_one_pip_would_ask(tmp_path: Path) -> None:
    file = tmp_path / "pip.conf"
    file.write_text("[global]\nindex-url = https://mirror.example/simple/\ncert = /etc/company.pem\n")
    assert repositories.pip_settings({}, [str(file)]) == ("https://mirror.example/simple", "/etc/company.pem")
    assert (
        repositories.pip_settings({"PIP_INDEX_URL": "https://mine.example"}, [str(file)])[0] == "https://mine.example"
    )
    assert repositories.pip_settings({}, []) == (repositories.DEFAULT_INDEX, None)


def test_an_index_that_answers_anything_is_reached() -> None:
    with serve(FakeHub({})) as hub:
        assert repositories.index_findings(f"{hub.url}/simple", None, 5) == []


def test_an_index_that_does_not_answer_is_a_warning_without_its_password() -> None:
    with serve(FakeHub({})) as hub:
        pass
    url = hub.url.replace("http://", "http://user:secret@")
    (found,) = repositories.index_findings(url, None, 5)
    assert found["code"] == "index-unreachable"
    assert found["severity"] == "warning"
    assert "secret" not in found["message"]
    assert hub.url.removeprefix("http://") in found["message"]
