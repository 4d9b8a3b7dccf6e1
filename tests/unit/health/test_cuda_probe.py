"""The proof of CUDA names each GPU that is sick and what it failed at, and waits for none for ever."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.fake_libcuda import PROBE, program, uuid_text
from tests.load import load

probe = load("plugins/module_utils/cuda_probe.py")
SIZE = 1 << 16


def prove(wrong: dict[str, Any], limit: float = 30, **options: Any) -> dict[str, Any]:
    """Prove a host whose driver is the stand-in."""
    return dict(probe.prove(SIZE, limit, program=program(wrong), **options))


def test_healthy_gpus_are_proved_with_everything_an_operator_looks_for() -> None:
    report = prove({"gpus": 2})
    assert report["error"] is None
    assert report["cuda_version"] == "13.0"
    first, second = report["gpus"]
    assert first["error"] is second["error"] is None
    assert {key: first[key] for key in ("index", "name", "pci_address", "uuid", "compute_capability")} == {
        "index": 0,
        "name": "NVIDIA H100 80GB HBM3",
        "pci_address": "0000:00:06.0",
        "uuid": uuid_text(0),
        "compute_capability": "9.0",
    }
    assert first["memory_total_bytes"] == 85017493504
    assert {"cuInit", "context", "copy to the GPU", "copy to the host"} <= set(first["seconds"])
    assert [(peer["from"], peer["to"], peer["direct"], peer["error"]) for peer in report["peers"]] == [
        (0, 1, True, None),
        (1, 0, True, None),
    ]


def test_one_gpu_alone_has_no_peer_copies() -> None:
    assert prove({"gpus": 1})["peers"] == []


@pytest.mark.parametrize("code", [2, 46, 999])
def test_a_gpu_whose_context_fails_hides_no_other(code: int) -> None:
    report = prove({"gpus": 3, "fail": {"cuCtxCreate_v2:1": code}})
    assert [gpu["error"] and (gpu["error"]["step"], gpu["error"]["code"]) for gpu in report["gpus"]] == [
        None,
        ("context", code),
        None,
    ]
    assert {(peer["from"], peer["to"]) for peer in report["peers"]} == {(0, 2), (2, 0)}


def test_a_fabric_that_is_not_ready_is_the_hosts_error_in_cudas_own_words() -> None:
    report = prove({"gpus": 2, "fail": {"cuInit": 802}})
    assert report["error"] == {
        "kind": "cuda",
        "step": "cuInit",
        "code": 802,
        "name": "CUDA_ERROR_SYSTEM_NOT_READY",
        "text": "system not yet initialized",
    }
    assert report["gpus"] == []


def test_a_fabric_is_waited_for_no_longer_than_allowed() -> None:
    began = time.monotonic()
    report = prove({"fail": {"cuInit": 802}}, fabric_limit=1)
    assert report["error"]["code"] == 802
    assert 1 <= time.monotonic() - began < 10


def test_bytes_that_come_back_changed_are_found() -> None:
    good, bad = prove({"gpus": 2, "corrupt": [1]})["gpus"]
    assert good["error"] is None
    assert bad["error"]["kind"] == "data"
    assert f"first at 0 of {SIZE}" in bad["error"]["text"]


def test_a_gpu_that_hangs_is_given_up_and_named_with_its_step() -> None:
    began = time.monotonic()
    good, bad = prove({"gpus": 2, "hang": ["cuCtxCreate_v2:1"]}, limit=1)["gpus"]
    assert time.monotonic() - began < 20
    assert good["error"] is None
    assert bad["error"] == {
        "kind": "hang",
        "step": "context",
        "code": None,
        "name": None,
        "text": "no answer within 1 s",
    }


def test_a_child_that_cannot_be_killed_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[int] = []
    kill = probe.os.killpg
    monkeypatch.setattr(
        probe.os, "killpg", lambda pid, _signal: left.append(pid)
    )  # as in state D, where no signal arrives
    try:
        report, _pair = probe.run_child("list", [], 1, program=program({"hang": ["cuInit"]}))
    finally:
        kill(left[0], 9)
    assert f"the process (pid {left[0]}, state S) cannot even be killed" in report["error"]["text"]


def test_a_gpu_that_keeps_the_library_from_starting_is_told_from_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for index in range(2):
        directory = tmp_path / f"0000:0{index}:06.0"
        directory.mkdir()
        text = f"Model: \t\t NVIDIA H100 80GB HBM3\nGPU UUID: \t {uuid_text(index)}\nDevice Minor: \t {index}\n"
        (directory / "information").write_text(text)
    monkeypatch.setattr(probe.listed_by_the_kernel, "__defaults__", (tmp_path,))
    report = prove({"gpus": 2, "fail": {"cuInit:1": 999}})
    assert report["error"]["code"] == 999
    assert [(gpu["pci_address"], gpu["error"] and gpu["error"]["code"]) for gpu in report["gpus"]] == [
        ("0000:00:06.0", None),
        ("0000:01:06.0", 999),
    ]


def test_a_peer_copy_that_changes_bytes_is_found_with_its_direction() -> None:
    report = prove({"gpus": 2, "corrupt": ["1>0"]})
    assert [(peer["from"], peer["to"]) for peer in report["peers"] if peer["error"]] == [(1, 0)]


def test_a_peer_copy_that_hangs_hides_no_other_pair() -> None:
    report = prove({"gpus": 2, "hang": ["cuMemcpyPeer:0>1"]}, limit=2)
    errors = {(peer["from"], peer["to"]): peer["error"] for peer in report["peers"]}
    assert errors[0, 1]["kind"] == "hang"
    assert errors[0, 1]["step"] == "copy to the other GPU"
    assert errors[1, 0] is None


def test_a_crash_is_an_error_of_the_step_it_came_in() -> None:
    report, _pair = probe.run_child("list", [], 30, program="import os; os.abort()")
    assert report["error"]["kind"] == "crash"
    assert "signal 6" in report["error"]["text"]


def test_the_file_alone_says_honestly_that_there_is_no_driver() -> None:
    done = subprocess.run(
        [sys.executable, str(PROBE), "--json"], capture_output=True, text=True, timeout=60, check=False
    )
    if Path("/proc/driver/nvidia/version").exists():
        pytest.skip("this machine has an NVIDIA driver")
    report = json.loads(done.stdout)
    assert done.returncode == 1
    assert report["error"]["kind"] == "library"
    assert "libcuda.so.1" in report["error"]["text"]


@pytest.mark.parametrize("mib", ["0", "200000"])
def test_a_copy_that_no_host_could_make_is_refused(mib: str) -> None:
    done = subprocess.run([sys.executable, str(PROBE), "--mib", mib], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert f"--mib is 1 to 1024, not {mib}" in done.stderr
