"""Processes that a former start of the same unit left are found, and nobody else's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.unit.notify.wrapped import module


def fake_process(proc: Path, pid: int, name: str, cgroup: str, state: str = "S") -> None:
    directory = proc / str(pid)
    directory.mkdir(parents=True)
    (directory / "stat").write_text(f"{pid} (a) name) {state} 1 1")
    (directory / "cmdline").write_text(f"{name}\0")
    (directory / "cgroup").write_text(cgroup)


def test_only_processes_of_the_same_unit_are_leftovers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = module("host")
    monkeypatch.setattr(host, "PROC", tmp_path)
    own = "1:memory:/system.slice/vllm-llm.service\n0::/system.slice/vllm-llm.service\n"
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "cgroup").write_text(own)
    fake_process(tmp_path, os.getpid(), "python", own)
    fake_process(tmp_path, 4_000_001, "VLLM::EngineCore", own, "T")
    fake_process(tmp_path, 4_000_002, "VLLM::Worker_TP0", own, "Z")
    fake_process(tmp_path, 4_000_003, "VLLM::EngineCore", own.replace("llm.service", "other.service"))
    assert [str(found) for found in host.of_unit("vllm-llm.service")] == ["VLLM::EngineCore (pid 4000001, is stopped)"]
    assert host.of_unit("llm.service") == []


@pytest.mark.parametrize(("cgroup", "unit"), [("0::/\n", ""), ("0::/user.slice/s-1.scope\n", "s-1.scope")])
def test_a_wrapper_run_by_hand_takes_nobody_for_its_leftovers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cgroup: str, unit: str
) -> None:
    """All processes of a login, or of a container, are in one cgroup: what is found there would be killed."""
    host = module("host")
    monkeypatch.setattr(host, "PROC", tmp_path)
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "cgroup").write_text(cgroup)
    fake_process(tmp_path, 4_000_001, "sshd", cgroup)
    assert host.of_unit(unit) == []
