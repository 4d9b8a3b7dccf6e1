"""The environments that clients run in are made once, and never taken for whole when they are not."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests import client_environments
from tests.client_environments import client_python


class FakeTools:
    """venv and pip, which write down what they were asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.broken = ""

    def run(self, *command: str) -> None:
        self.asked.append(command[2])
        if self.broken in command:
            raise AssertionError(f"{self.broken} was killed")
        if command[2] == "venv":
            python = Path(command[-1]) / "bin" / "python"
            python.parent.mkdir(parents=True)
            python.symlink_to(sys.executable)


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeTools:
    fake = FakeTools()
    monkeypatch.setenv("VLLM_FLEET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(client_environments, "REQUIREMENTS", tmp_path)
    monkeypatch.setattr(client_environments, "_run", fake.run)
    (tmp_path / "some.lock").write_text("some==1\n")
    return fake


def test_an_environment_is_made_once(tools: FakeTools) -> None:
    assert client_python("some") == client_python("some")
    assert tools.asked == ["venv", "pip"]


def test_another_lock_gets_another_environment(tools: FakeTools, tmp_path: Path) -> None:
    first = client_python("some")
    (tmp_path / "some.lock").write_text("some==2\n")
    assert client_python("some") != first
    assert tools.asked == ["venv", "pip"] * 2


def test_one_left_half_made_is_made_anew(tools: FakeTools, tmp_path: Path) -> None:
    tools.broken = "pip"
    with pytest.raises(AssertionError, match="pip was killed"):
        client_python("some")
    tools.broken = ""
    assert client_python("some").exists()
    assert tools.asked == ["venv", "pip"] * 2


def test_one_whose_python_has_gone_is_made_anew(tools: FakeTools) -> None:
    python = client_python("some")
    python.unlink()
    python.symlink_to("/nonexistent/python")
    assert client_python("some").exists()


def test_two_at_a_time_make_one(tools: FakeTools) -> None:
    with ThreadPoolExecutor() as pool:
        assert len(set(pool.map(client_python, ["some"] * 8))) == 1
    assert tools.asked == ["venv", "pip"]


@pytest.mark.parametrize("name", ["clients", "dify"])
def test_every_package_is_pinned_by_hash_and_no_registry_is_named(name: str) -> None:
    lock = (client_environments.REQUIREMENTS / f"{name}.lock").read_text(encoding="utf-8")
    packages: Sequence[str] = [line for line in lock.splitlines() if line[:1].isalnum()]
    assert packages
    assert all("==" in line and line.endswith("\\") for line in packages)
    assert "://" not in lock
    assert "--index" not in lock


def test_pips_complaint_reaches_whoever_runs_the_tests() -> None:
    with pytest.raises(AssertionError, match="no file there"):
        client_environments._run(sys.executable, "-c", "raise SystemExit('no file there')")
