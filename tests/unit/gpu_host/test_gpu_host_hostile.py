"""Broken inputs and commands that do not end: each gives null, none an exception or a wait."""

from __future__ import annotations

import ast
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests import hosts
from tests.hosts.replay import collect
from tests.load import ROOT

from ansible.module_utils.gpu_host import limits, pci_ids, smi, source, system  # isort: skip

SHIPPED = sorted((ROOT / "plugins/module_utils/gpu_host").glob("*.py"))


def replay(directory: Path, **changed: Any) -> Any:
    """Read the healthy h200x2 with some of its answers replaced."""
    root = hosts.build(hosts.named("h200x2"), directory)
    commands = json.loads((root / "commands.json").read_text())
    (root / "commands.json").write_text(json.dumps(commands | changed.get("commands", {})))
    for name, content in changed.get("files", {}).items():
        (root / name.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
        (root / name.lstrip("/")).write_bytes(content)
    return collect(str(root), 5, [])


def answer(stdout: str, **more: Any) -> dict[str, Any]:
    return {"nvidia-smi -q -x": {"rc": 0, "stdout": stdout, **more}}


@pytest.mark.parametrize("path", [*SHIPPED, ROOT / "plugins/modules/gpu_host_facts.py"], ids=lambda path: path.name)
def test_what_runs_on_hosts_is_python_3_8(path: Path) -> None:
    ast.parse(path.read_text(), feature_version=(3, 8))


@pytest.mark.parametrize(
    "stdout", ["", "\n", "<", "<nvidia_smi_log", "<nvidia_smi_log><gpu>", "\x00" * 10, "No devices"]
)
def test_an_answer_that_is_no_xml_is_a_failure_with_words(tmp_path: Path, stdout: str) -> None:
    found = replay(tmp_path, commands=answer(stdout))
    assert found["gpus"] is None
    assert found["nvidia"]["smi"]["state"] == "failed"
    assert found["nvidia"]["smi"]["message"]


def test_a_warning_before_the_xml_is_kept_and_the_gpus_are_read(tmp_path: Path) -> None:
    good = hosts.named("h200x2").commands["nvidia-smi -q -x"]["stdout"]
    warning = "WARNING: infoROM is corrupted at gpu 0000:18:00.0\n"
    found = replay(tmp_path, commands=answer(warning + good + "trailing words\n"))
    assert len(found["gpus"]) == 2
    assert found["nvidia"]["smi"] == {"state": "ok", "message": warning.strip()}


def test_a_process_with_a_name_that_is_no_xml_hides_no_gpu(tmp_path: Path) -> None:
    host = hosts.named("h100x8")
    text = host.commands["nvidia-smi -q -x"]["stdout"].replace("VLLM::EngineCore", "python & <x> \x01é")
    found = replay(tmp_path, commands=answer(text))
    assert len(found["gpus"]) == 8
    assert found["gpus"][0]["processes"][0]["name"] == "python ? ?x? ??"


def test_a_disk_that_does_not_answer_is_named_with_its_mount(tmp_path: Path) -> None:
    mounts = b"/dev/sda2 / ext4 rw 0 0\nnas:/models /srv/models nfs4 rw 0 0\n"
    root = hosts.build(hosts.named("h200x2"), tmp_path)
    commands = json.loads((root / "commands.json").read_text())
    commands["df -P -B1 /srv/models"] = {"hangs": True}
    (root / "commands.json").write_text(json.dumps(commands))
    (root / "srv/models").mkdir()
    (root / "proc/self/mounts").write_bytes(mounts)
    found = collect(str(root), 7, ["/srv/models/llm", "/srv"])
    stale, fine = found["disks"]
    assert stale == {"path": "/srv/models/llm", "mount": "/srv/models", "total_bytes": None, "free_bytes": None}
    assert fine["free_bytes"]
    assert found["unread"] == [
        {"probe": "disk /srv/models/llm", "reason": "df -P -B1 /srv/models did not answer within 7 s"}
    ]


def test_xml_without_gpus_is_an_answer_of_none(tmp_path: Path) -> None:
    assert replay(tmp_path, commands=answer("<nvidia_smi_log></nvidia_smi_log>"))["gpus"] == []


def test_bytes_that_are_no_text_stop_nothing(tmp_path: Path) -> None:
    names = ("/etc/os-release", "/proc/meminfo", "/proc/version", "/proc/modules", "/proc/driver/nvidia/version")
    found = replay(tmp_path, files=dict.fromkeys([*names, "/etc/passwd", "/proc/net/tcp"], b"\xff\xfe\x00 = : \n" * 99))
    assert found["unread"] == []
    assert (found["memory_total_bytes"], found["os"]["id"]) == (None, None)


def test_an_empty_root_gives_all_keys_and_null(tmp_path: Path) -> None:
    found = collect(str(tmp_path), 5, ["/srv"])
    healthy = replay(tmp_path / "healthy")
    assert found.keys() == healthy.keys()
    assert [one["probe"] for one in found["unread"]] == ["xids"]
    assert (found["kernel"], found["gpus"], found["secure_boot"]["enabled"], found["cpus"]) == (None, None, None, [])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(0, 12000), garbage=st.text(max_size=30))
@example(cut=0, garbage="²")
@example(cut=0, garbage="0-9999999999")
def test_no_damage_to_an_answer_raises(cut: int, garbage: str) -> None:
    good = hosts.named("h200-vm").commands["nvidia-smi -q -x"]["stdout"]
    log, _ = smi.parse_log(good[:cut] + garbage + good[cut + len(garbage) :])
    if log is not None:
        smi.read_gpus(source.Source("/nonexistent"), log)
    smi.parse_topology(garbage)
    source.expand(garbage)
    system.os_release(garbage)


def test_ids_that_no_table_lists_are_known_by_their_chip() -> None:
    assert pci_ids.describe("23ff") == (None, "Hopper", "9.0")
    assert pci_ids.describe("ffff") == (None, None, None)
    assert [device for device in pci_ids.NAMES if pci_ids.describe(device)[1] is None] == []


def test_ranges_of_chips_do_not_overlap() -> None:
    bounds = [bound for chip in pci_ids.CHIPS for bound in chip[:2]]
    assert bounds == sorted(bounds)


def test_a_command_that_ignores_sigterm_is_given_up_in_time() -> None:
    program = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('here', flush=True); time.sleep(60)"
    )
    began = time.monotonic()
    found = limits.run_command([sys.executable, "-c", program], 1, dict(os.environ))
    assert time.monotonic() - began < 2
    assert found["hangs"]
    assert found["stdout"] == b"here\n"


def test_a_command_whose_child_keeps_its_output_open_is_given_up_in_time() -> None:
    began = time.monotonic()
    found = limits.run_command(["sh", "-c", "sleep 60 & echo started"], 0.5, dict(os.environ))
    assert time.monotonic() - began < 2
    assert found["hangs"]


def test_endless_output_is_cut_and_given_up() -> None:
    found = limits.run_command(["yes", "NVRM: Xid"], 0.5, dict(os.environ))
    assert found["hangs"]
    assert len(found["stdout"]) < limits.OUTPUT_BYTES + 2**20


def test_a_stopped_probe_costs_its_limit_and_leaves_the_others_their_answers() -> None:
    """SIGSTOP stands for uninterruptible sleep: the process neither answers nor ends."""
    began = time.monotonic()
    results, trouble = limits.in_children(
        {
            "stuck": (lambda: os.kill(os.getpid(), signal.SIGSTOP), 0.5),
            "large": (lambda: "x" * 10**6, 5),
            "broken": (lambda: {}["gpu"], 5),
        }
    )
    assert time.monotonic() - began < 2
    assert (results["stuck"], results["large"], results["broken"]) == (None, "x" * 10**6, None)
    assert trouble == {"stuck": "no answer in time", "broken": "KeyError: 'gpu'"}


def test_a_host_that_can_make_no_process_gives_null_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> int:
        raise OSError("Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", refuse)
    assert limits.in_children({"a": (lambda: 1, 1)}) == ({"a": None}, {"a": "Resource temporarily unavailable"})


def test_libraries_linked_in_a_circle_hide_nothing_else(tmp_path: Path) -> None:
    root = hosts.build(hosts.named("h200x2"), tmp_path)
    library = root / "usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1"
    library.unlink()
    library.symlink_to("libnvidia-ml.so.1")
    found = collect(str(root), 5, [])
    assert (found["unread"], found["nvidia"]["userspace_version"]) == ([], "580.159.04")


def test_a_link_never_leads_out_of_the_root(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/os-release").symlink_to("/etc/passwd")
    (tmp_path / "loop").symlink_to("loop")
    host = source.Source(str(tmp_path))
    assert host.read("/etc/os-release") is None
    assert host.read("/loop") is None


def test_the_mount_of_a_path_is_found_without_touching_it() -> None:
    mounts = "/dev/sda / ext4 rw 0 0\nnas:/m /srv/models nfs rw 0 0\nx /srv/mod tmpfs rw 0 0\n"
    assert system.mount_of(mounts, "/srv/models/llm") == "/srv/models"
    assert system.mount_of(mounts, "/srv/modest") == "/"
