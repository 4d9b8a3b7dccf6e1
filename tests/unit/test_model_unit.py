"""The unit of a model server, as systemd reads it, and the sandbox it shares with the proof of CUDA."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path, PurePosixPath
from typing import Any

import jinja2
import pytest
import yaml

from tests.load import ROOT
from vllm_fleet.units import quote_argument, quote_word

ROLE = ROOT / "roles/model_server"
VARS: dict[str, Any] = yaml.safe_load((ROLE / "vars/main.yml").read_text())
DEVICES = {
    "cuda": {"env": {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": "0,1"}, "locks": ["gpu-0", "gpu-1"]},
    "cpu": {"env": {"VLLM_CPU_OMP_THREADS_BIND": "0|1"}, "locks": ["cpu"]},
}


def unit(backend: str) -> str:
    """Render the template as Ansible does, with a server of two ranks."""
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, keep_trailing_newline=True, autoescape=False
    )
    environment.filters |= {
        "systemd_argument": quote_argument,
        "systemd_word": quote_word,
        "basename": lambda path: PurePosixPath(path).name,
    }
    server = {
        **{"kind": "llm", "name": "llm", "served_model_name": "tiny", "model_path": "/", "dtype": "float16"},
        **{"probe_address": "127.0.0.1", "port": 32804, "tensor_parallel_size": 2, "argv": ["serve", "/"]},
        **{"env": DEVICES[backend]["env"], "device_locks": DEVICES[backend]["locks"]},
    }
    return environment.from_string((ROLE / "templates/vllm.service.j2").read_text()).render(
        server=server,
        serving_plan={"backend": backend},
        manifest="none",
        vllm_runtime_user="root",
        vllm_runtime_release_dir="/opt/vllm-fleet/releases/r",
        __model_server_python="/bin/true",
        __model_server_notifier="/opt/n",
        __model_server_credentials="/etc/vllm-fleet",
        __model_server_sandbox=VARS["__model_server_devices"][backend] + VARS["__model_server_hardening"],
        **yaml.safe_load((ROLE / "defaults/main.yml").read_text()),
    )


def settings(text: str) -> dict[str, list[str]]:
    """Return the values of each setting of a unit."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if "=" in line and not line.startswith(("#", " ", "[")):
            name, _equals, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


def test_cuda_servers_reach_nvidias_devices_and_no_others() -> None:
    read = settings(unit("cuda"))
    assert read["DevicePolicy"] == ["closed"]
    assert read["DeviceAllow"] == ["char-nvidia* rwm"]
    assert "PrivateDevices" not in read, "it would hide the devices altogether"


def test_cpu_servers_reach_no_device() -> None:
    read = settings(unit("cpu"))
    assert read["PrivateDevices"] == ["yes"]
    assert "DeviceAllow" not in read


def test_the_device_nodes_of_a_servers_own_gpus_are_made_before_it_starts() -> None:
    assert settings(unit("cuda"))["ExecStartPre"] == ["+-/usr/bin/nvidia-modprobe -u -c0 -c1"]
    assert "ExecStartPre" not in settings(unit("cpu"))


def test_cuda_numbers_gpus_as_the_plan_does() -> None:
    assert "CUDA_DEVICE_ORDER=PCI_BUS_ID" in settings(unit("cuda"))["Environment"]


@pytest.mark.parametrize("backend", ["cuda", "cpu"])
def test_the_whole_sandbox_of_the_proof_stands_in_the_unit(backend: str) -> None:
    lines = unit(backend).splitlines()
    assert set(VARS["__model_server_devices"][backend] + VARS["__model_server_hardening"]) <= set(lines)


@pytest.mark.parametrize("backend", ["cuda", "cpu"])
@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_understands_every_line(backend: str, tmp_path: Path) -> None:
    path = tmp_path / "vllm-llm.service"
    path.write_text(unit(backend))
    command = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    complaints = [
        line for line in done.stderr.splitlines() if "vllm-llm.service" in line and "nvidia-modprobe" not in line
    ]
    assert complaints == [], done.stderr
