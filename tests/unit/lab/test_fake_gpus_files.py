"""What --fake-gpus puts into a host that has not started yet."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests import hosts
from vllm_fleet.errors import FleetError
from vllm_fleet.lab import fake_gpus


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A host's root directory, as far as a base image has it."""
    for directory in ("usr/local/bin", "usr/lib/systemd/system", "var/log"):
        (tmp_path / "root" / directory).mkdir(parents=True)
    return tmp_path / "root"


def tree(root: Path) -> Path:
    return root / fake_gpus.PLACE.relative_to("/") / "tree"


def test_an_unknown_name_is_answered_with_all_names() -> None:
    with pytest.raises(FleetError, match=r"no fake GPUs called 'h300'. Known: a100x4, .*v100; a path works, too"):
        fake_gpus.resolve("h300")


def test_every_host_of_the_tests_can_be_pretended_to_be() -> None:
    assert fake_gpus.known() == hosts.names()


def test_a_file_and_a_directory_that_somebody_laid_out_work_as_well(root: Path, tmp_path: Path) -> None:
    laid_out = tmp_path / "mine"
    hosts.build(hosts.named("t4"), laid_out)
    assert fake_gpus.resolve(str(laid_out)) == laid_out
    assert fake_gpus.resolve(str(hosts.HOSTS / "t4.yml")) == hosts.HOSTS / "t4.yml"
    fake_gpus.install(str(laid_out), root)
    assert (tree(root) / "sys/bus/pci/devices/0000:00:1e.0/device").read_text() == "0x1eb8\n"


def test_tools_answer_as_on_the_other_machine_and_say_that_they_are_fake(root: Path) -> None:
    fake_gpus.install("gpu-fallen-off-the-bus", root)
    tool = root / "usr/local/bin/nvidia-smi"
    assert tool.readlink() == fake_gpus.PLACE / "answer"
    program = root / fake_gpus.PLACE.relative_to("/") / "answer"
    assert "FAKE" in program.read_text()
    named = program.with_name("nvidia-smi")
    named.symlink_to("answer")
    done = subprocess.run([sys.executable, named, "-q", "-x"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout[:34]) == (255, "Unable to determine the device han")
    done = subprocess.run([sys.executable, named, "-L"], capture_output=True, text=True, check=False)
    assert (done.returncode, "only answer: nvidia-smi -q -x" in done.stderr) == (1, True)


def test_the_kernel_log_is_answered_by_dmesg(root: Path) -> None:
    fake_gpus.install("smi-hangs", root)
    answers = json.loads((tree(root) / "commands.json").read_text())
    assert "Xid" in answers["dmesg"]["stdout"]


def test_daemons_that_run_there_run_here_and_no_others(root: Path) -> None:
    fake_gpus.install("fabric-manager-missing", root)
    enabled = {link.name for link in (root / "etc/systemd/system/multi-user.target.wants").iterdir()}
    assert enabled == {"nvidia-persistenced.service"}


def test_a_recorded_pci_device_is_no_link_that_would_lead_to_a_real_one(root: Path) -> None:
    fake_gpus.install("h100-vm", root)
    device = tree(root) / "sys/bus/pci/devices/0000:00:06.0"
    assert (device.is_symlink(), (device / "device").read_text()) == (False, "0x2330\n")


def test_loaded_modules_show_on_a_machine_whose_kernel_knows_none(root: Path) -> None:
    fake_gpus.install("h100-vm", root)
    assert (tree(root) / "sys/module/nvidia_uvm/initstate").read_text() == "live\n"


@pytest.mark.parametrize("name", ["h200x2", "h100-vm"])
def test_libraries_are_names_only_and_say_so(root: Path, name: str) -> None:
    fake_gpus.install(name, root)
    library = root / "usr/local/nvidia/lib64/libnvidia-ml.so.1"
    assert library.resolve().name == "libnvidia-ml.so.580.159.04"
    assert "fake" in library.read_text()
