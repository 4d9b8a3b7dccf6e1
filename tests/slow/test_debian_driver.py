"""The role's way through real packages: Debian's own driver, a real DKMS build and initramfs, on a host without a GPU.

Debian's driver is 535 and proprietary, which the role refuses; for the installation its data and limits are replaced by
variables here. The GPU is the only thing faked (fake_gpu_host). Takes minutes: `make test-slow`.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.conftest import ROOT, Done, LabHost, run

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif("VLLM_FLEET_SLOW_TESTS" not in os.environ, reason="takes minutes: run `make test-slow`"),
]

PLAYBOOK = """
- hosts: gpu_hosts
  gather_facts: false
  roles: [nvidia_driver]
"""
GPU = {"address": "0000:18:00.0", "id": "10de:2330", "name": "H100", "compute_capability": "9.0", "driver": None}


@pytest.fixture(scope="module")
def host() -> LabHost:
    if os.geteuid() != 0:
        pytest.skip("a lab host needs root: run `sudo make test-slow`")
    run("scripts/lab", "down")
    up = run("scripts/lab", "up")
    assert up.status == 0, up.output
    host = LabHost("lab-1")
    host.read("sed", "-i", "s/ main$/ main contrib non-free non-free-firmware/", "/etc/apt/sources.list")
    host.read("apt-get", "update", "--quiet")
    kernel = host.do(
        *("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "--yes", "--quiet"),
        *("--no-install-recommends", "linux-image-amd64", "initramfs-tools", "kmod"),
        timeout=900,
    )
    assert kernel.status == 0, kernel.output[-2000:]
    return host


def debian_platforms() -> dict[str, Any]:
    """Return the role's data with Debian's own names in it."""
    variables = yaml.safe_load((ROOT / "roles/nvidia_driver/vars/main.yml").read_text())
    platforms: dict[str, Any] = variables["__nvidia_driver_platforms"]
    platforms["debian"] |= {"packages": ["nvidia-driver"], "pinning": [], "licence": "."}
    return platforms


def deploy(host: LabHost, playbook: Path, machine: dict[str, Any], **variables: object) -> Done:
    host.read(
        "python3", "-c", "import sys; open('/etc/fake-gpu-host.json', 'w').write(sys.argv[1])", json.dumps(machine)
    )
    library = f"{ROOT / 'tests/integration/fake_gpu_host'}:{ROOT / 'plugins/modules'}"
    command = ["env", f"ANSIBLE_LIBRARY={library}", "ansible-playbook", playbook, "-e", json.dumps(variables)]
    return run(*command, timeout=1800)


def test_debians_driver_is_built_for_the_kernel_and_then_refused(host: LabHost, tmp_path: Path) -> None:
    playbook = tmp_path / "driver.yml"
    playbook.write_text(PLAYBOOK)
    kernel = host.read("sh", "-c", "basename $(dirname /lib/modules/*/kernel)")
    machine = {"kernel": kernel, "pci_gpus": [GPU]}
    wishes = {"nvidia_driver_branch": "535", "nvidia_driver_manage_repo": False}
    real = {"__nvidia_driver_platforms": debian_platforms(), "__nvidia_driver_min_branch": "535"}
    before = int(host.read("sh", "-c", "dpkg-query --list | grep -c ^.i"))

    began = time.monotonic()
    done = deploy(host, playbook, machine, **wishes, **real)
    seconds = time.monotonic() - began
    assert done.status == 0, done.output[-4000:]
    packages = int(host.read("sh", "-c", "dpkg-query --list | grep -c ^.i")) - before
    print(f"\n{packages} packages and a DKMS build for {kernel} in {seconds:.0f} s")
    assert packages > 50
    assert f"{kernel}, x86_64: installed" in host.read("dkms", "status")
    assert "etc/modprobe.d/nvidia-driver.conf" in host.read("lsinitramfs", f"/boot/initrd.img-{kernel}")
    assert "must be rebooted" in done.output, "no GPU, no loaded module: the role does not claim that it works"

    again = deploy(host, playbook, machine, **wishes, **real)
    assert "changed=0" in again.output, again.output[-4000:]

    too_old = deploy(host, playbook, machine, **wishes)
    assert too_old.status == 2
    assert "(535 < 580)" in too_old.output, too_old.output[-2000:]
    no_gpu = deploy(host, playbook, {**machine, "pci_gpus": []})
    assert no_gpu.status == 2
    assert "no NVIDIA GPU is on the PCI bus" in no_gpu.output, no_gpu.output[-2000:]
