"""Lab hosts that look like machines with GPUs, read over real ssh. Nothing here computes."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.hosts.replay import facts
from tests.integration.conftest import ROOT, LabHost, run

pytestmark = pytest.mark.integration

# What a lab host shows of the other machine; the rest is its own.
NVIDIA = ("module", "uvm_loaded", "userspace_version", "firmware_versions", "fabric_manager", "cuda_version", "smi")


@pytest.fixture(scope="module")
def fake_host() -> Iterator[LabHost]:
    if os.geteuid() != 0:
        pytest.skip("a lab host needs root: run `sudo make test`")
    up = run("scripts/lab", "up", "--fake-gpus", "h200x2", "gpu-1")
    assert up.status == 0, up.output
    yield LabHost("gpu-1")
    run("scripts/lab", "down", "gpu-1")


def read(host: LabHost, *options: str) -> Any:
    """Run the module on a host as a playbook would; return its fact."""
    inventory = ROOT / "inventory/lab"
    done = run("ansible", host.name, "-i", inventory, "-m", "gpu_host_facts", "-a", " ".join(options), "-o")
    assert done.status == 0, done.output
    return json.loads(done.output.partition("=>")[2])["ansible_facts"]["gpu_host"]


def shown(found: Any) -> Any:
    """Return the part of the facts that a lab host takes from the other machine."""
    nvidia = {key: found["nvidia"][key] for key in (*NVIDIA, "devices", "xids")}
    return {"nvidia": nvidia, **{key: found[key] for key in ("gpus", "links", "pci_gpus", "nvswitches")}}


def test_the_lab_host_shows_the_gpus_of_the_other_machine_before_and_after_a_reboot(fake_host: LabHost) -> None:
    expected = shown(facts("h200x2"))
    first = read(fake_host)
    assert shown(first) == expected
    assert (first["os"]["id"], first["nvidia"]["persistenced"]["active"], first["unread"]) == ("debian", True, [])
    assert fake_host.read("systemctl", "is-system-running") == "running"
    assert run("scripts/lab", "reboot", fake_host.name).status == 0
    second = read(fake_host)
    assert shown(second) == expected
    assert second["boot_id"] != first["boot_id"]


def test_a_second_up_keeps_the_gpus_and_refuses_others(fake_host: LabHost) -> None:
    assert "GPUs of h200x2" in run("scripts/lab", "up", fake_host.name).output
    other = run("scripts/lab", "up", "--fake-gpus", "h100x8", fake_host.name)
    assert (other.status, other.output.count("\n")) == (2, 1)
    assert f"down {fake_host.name}" in other.output
    assert "h200x2" in run("scripts/lab", "status").output


def test_a_hanging_nvidia_smi_does_not_hang_ansible(fake_host: LabHost) -> None:
    up = run("scripts/lab", "up", "--fake-gpus", "smi-hangs", "gpu-2")
    assert up.status == 0, up.output
    try:
        began = time.monotonic()
        found = read(LabHost("gpu-2"), "timeout=2")
        assert time.monotonic() - began < 15
        assert (found["gpus"], found["nvidia"]["smi"]["state"]) == (None, "hangs")
        assert [xid["xid"] for xid in found["nvidia"]["xids"]] == [119]
        assert [gpu["name"] for gpu in found["pci_gpus"]] == ["NVIDIA A100 80GB PCIe"]
    finally:
        run("scripts/lab", "down", "gpu-2")


def test_the_whole_job_goes_up_to_the_proof_that_the_gpus_compute(fake_host: LabHost) -> None:
    """Preflight and the plan of two GPUs pass, the driver stays as it is; nothing computes, so nothing is served."""
    trained = ROOT / "vllm_fleet/lab/models/trained"
    servers = json.loads(run("ansible-inventory", "--host", fake_host.name).output)["model_servers"]
    gpus = {"llm": ([0, 1], 0.7), "embedding": ([0], 0.2), "rerank": ([1], 0.2)}
    for server in servers:
        server["copy_from"] = str(trained / server["name"])
        server["gpus"], server["gpu_memory_utilization"] = gpus[server["name"]]
    given = json.dumps({"vllm_runtime_backend": "cuda", "model_servers": servers})
    done = run("ansible-playbook", "site.yml", "--limit", fake_host.name, "-e", given)
    assert done.status == 2, done.output[-6000:]
    preflight, _, proof = done.output.partition("PLAY [Install NVIDIA's driver")
    assert "driver-not-from-packages" in preflight
    assert "health-no-driver" in proof
    assert "libcuda.so.1" in proof
    assert "changed=0" in proof
