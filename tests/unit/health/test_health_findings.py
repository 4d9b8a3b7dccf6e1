"""What the proof measured becomes sentences with codes that an operator can act on, and one table."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.fake_libcuda import program, uuid_text
from tests.load import ROOT, load
from vllm_fleet.gpu_health.cuda_errors import CUDA_ERRORS
from vllm_fleet.gpu_health.findings import CODES, Wanted, find, find_as_user
from vllm_fleet.gpu_health.table import render, rows

probe = load("plugins/module_utils/cuda_probe.py")
DRIVER = "580.159.04"


def gpu(index: int, error: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "index": index,
        "name": "NVIDIA H100 80GB HBM3",
        "pci_address": f"0000:0{index}:06.0",
        "uuid": uuid_text(index),
        "memory_total_bytes": 85017493504,
        "seconds": {"context": 0.15},
        "gb_per_s_to_gpu": 6.1,
        "gb_per_s_to_host": 9.6,
        "error": error,
    }


def proof(*gpus: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {"error": None, "cuda_version": "13.0", "gpus": list(gpus), "peers": [], "seconds": 1.0, **changes}


def cuda(code: int, step: str = "context") -> dict[str, Any]:
    return {"kind": "cuda", "step": step, "code": code, "name": "CUDA_ERROR_SOMETHING", "text": "something"}


def other(kind: str, step: str | None, text: str) -> dict[str, Any]:
    return {"kind": kind, "step": step, "code": None, "name": None, "text": text}


def smi(index: int, **changes: Any) -> dict[str, Any]:
    healthy = {
        "index": index,
        "uuid": uuid_text(index),
        "pci_address": f"0000:0{index}:06.0",
        "persistence": True,
        "mig": False,
        "remap_pending": False,
        "remap_failure": False,
        "recovery_action": "None",
        "fabric_state": "Completed",
        "fabric_status": "Success",
        "processes": [],
    }
    return {**healthy, **changes}


def host(*gpus: dict[str, Any], **changes: Any) -> dict[str, Any]:
    facts = {
        "pci_gpus": [{"address": gpu["pci_address"], "driver": "nvidia"} for gpu in gpus],
        "nvswitches": [{"address": "0000:c0:00.0"}],
        "nvidia": {
            "module": {"loaded": True, "version": DRIVER},
            "userspace_version": DRIVER,
            "fabric_manager": {"version": DRIVER, "active": True, "log": "Successfully configured all the switches"},
        },
        "gpus": list(gpus),
    }
    return {**facts, **changes}


def codes(found: list[dict[str, str]]) -> list[str]:
    return [each["code"] for each in found]


def test_a_healthy_host_has_no_findings() -> None:
    assert find(proof(gpu(0), gpu(1)), host(smi(0), smi(1)), Wanted(2, "580")) == []


def test_what_the_facts_do_not_know_is_not_judged() -> None:
    unknown = {"pci_gpus": None, "nvswitches": None, "nvidia": None, "gpus": None}
    assert find(proof(gpu(0)), unknown, Wanted(0, DRIVER)) == []


@pytest.mark.parametrize("on_bus", [None, [], [{"address": "0000:00:06.0"}]])
def test_a_host_without_a_driver_is_refused_in_one_sentence(on_bus: list[dict[str, str]] | None) -> None:
    library = other("library", "load libcuda.so.1", "libcuda.so.1: cannot open shared object file: No such file")
    (found,) = find(proof(error=library), host(pci_gpus=on_bus), Wanted(8, "580"))
    assert found["code"] == "health-no-driver"
    assert found["message"].startswith("no NVIDIA driver on this host")
    assert ("no NVIDIA GPU on its PCI bus" in found["message"]) == (on_bus == [])


def test_an_unready_fabric_is_said_once_for_all_gpus() -> None:
    unready = [smi(index, fabric_state="In Progress", fabric_status=None) for index in range(8)]
    (found,) = find(proof(error=cuda(802, "cuInit")), host(*unready), Wanted(8))
    assert found["code"] == "health-fabric-not-ready"
    assert "802" in found["message"]
    assert "systemctl status nvidia-fabricmanager" in found["message"]


def test_a_fabric_that_nvidia_smi_calls_unfinished_is_found_with_the_last_word_of_fabric_manager() -> None:
    (found,) = find(proof(gpu(0)), host(smi(0, fabric_state="Not Started", fabric_status=None)), Wanted())
    assert found["code"] == "health-fabric-not-ready"
    assert "Successfully configured all the switches" in found["message"]


@pytest.mark.parametrize("code", sorted(CUDA_ERRORS))
def test_every_error_of_cuda_comes_with_its_cause_and_a_remedy(code: int) -> None:
    (found,) = find(proof(gpu(0), gpu(1, cuda(code))), host(smi(0), smi(1)), Wanted())
    cause, remedy = CUDA_ERRORS[code]
    assert found["message"].startswith(f"GPU 1 (0000:01:06.0): context fails with {code} CUDA_ERROR_SOMETHING")
    assert cause in found["message"]
    assert remedy in found["message"]


def test_an_error_nobody_has_met_yet_leads_to_the_kernel_log() -> None:
    (found,) = find(proof(error=cuda(888, "cuInit")), host(smi(0)), Wanted())
    assert found["code"] == "health-cuda"
    assert "journalctl -k" in found["message"]


def test_a_gpu_full_with_a_running_server_is_no_error() -> None:
    server = {"pid": 812, "name": "VLLM::EngineCore", "used_mib": 80000, "user": "vllm", "unit": "vllm-llm.service"}
    (found,) = find(proof(gpu(0, cuda(2))), host(smi(0, processes=[server])), Wanted())
    assert (found["code"], found["severity"]) == ("health-gpu-memory-full", "warning")
    assert "VLLM::EngineCore (pid 812, unit vllm-llm.service)" in found["message"]


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (
            other("hang", "context", "no answer within 120 s"),
            "health-gpu-hangs",
            "context hangs: no answer within 120 s",
        ),
        (other("data", "compare", "the bytes that came back differ"), "health-gpu-copy", "have the card replaced"),
        (
            other("crash", "context", "killed by signal 11"),
            "health-probe-failed",
            "context fails (killed by signal 11)",
        ),
    ],
)
def test_what_is_not_an_error_of_cuda_is_named_too(error: dict[str, Any], code: str, words: str) -> None:
    (found,) = find(proof(gpu(0, error)), host(smi(0)), Wanted())
    assert found["code"] == code
    assert words in found["message"]


def test_a_hang_of_the_library_is_one_finding_and_the_count_is_not_guessed() -> None:
    error = other("hang", "cuInit", "no answer within 120 s; the process (pid 9, state D) cannot even be killed")
    (found,) = find(proof(error=error), host(smi(0), smi(1)), Wanted(2))
    assert found["code"] == "health-gpu-hangs"
    assert "state D" in found["message"]


def test_a_gpu_that_cuda_does_not_offer_is_named_by_its_address() -> None:
    (found,) = find(proof(gpu(0)), host(smi(0), smi(1)), Wanted())
    assert found["code"] == "health-gpu-count"
    assert "CUDA offers 1 GPUs, 2 are expected; on the PCI bus but not in CUDA: 0000:01:06.0" in found["message"]


def test_a_gpu_given_to_a_virtual_machine_is_not_missed() -> None:
    on_bus = [{"address": "0000:00:06.0", "driver": "nvidia"}, {"address": "0000:01:06.0", "driver": "vfio-pci"}]
    assert find(proof(gpu(0)), host(smi(0), pci_gpus=on_bus), Wanted()) == []


def test_gpus_are_not_counted_where_one_is_divided_and_cuda_shows_an_instance_alone() -> None:
    assert find(proof({**gpu(0), "uuid": "GPU-of-an-instance"}), host(smi(0, mig=True), smi(1)), Wanted(2)) == []


def test_fewer_gpus_than_declared_are_found_where_the_bus_shows_no_more_either() -> None:
    assert codes(find(proof(gpu(0)), host(smi(0)), Wanted(2))) == ["health-gpu-count"]


def test_another_numbering_than_nvidia_smis_is_found() -> None:
    swapped = [smi(0, uuid=uuid_text(1)), smi(1, uuid=uuid_text(0))]
    assert codes(find(proof(gpu(0), gpu(1)), host(*swapped), Wanted())) == ["health-gpu-order"]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [("", []), ("580", []), (DRIVER, []), ("595", ["health-driver-version"]), ("58", ["health-driver-version"])],
)
def test_the_loaded_driver_is_compared_with_the_wanted_branch_or_version(wanted: str, expected: list[str]) -> None:
    assert codes(find(proof(gpu(0)), host(smi(0)), Wanted(0, wanted))) == expected


@pytest.mark.parametrize("part", ["userspace_version", "fabric_manager"])
def test_every_part_of_the_driver_must_be_of_the_modules_version(part: str) -> None:
    facts = host(smi(0))
    facts["nvidia"][part] = {"version": "590.48.01"} if part == "fabric_manager" else "590.48.01"
    (found,) = find(proof(gpu(0)), facts, Wanted())
    assert found["code"] == "health-versions-differ"
    assert f"kernel module {DRIVER}" in found["message"]
    assert "590.48.01" in found["message"]


def test_a_fabric_manager_without_nvswitches_may_be_of_any_version() -> None:
    facts = host(smi(0), nvswitches=[])
    facts["nvidia"]["fabric_manager"] = {"version": "590.48.01"}
    assert find(proof(gpu(0)), facts, Wanted()) == []


@pytest.mark.parametrize(
    ("changes", "code", "severity"),
    [
        ({"remap_pending": True}, "health-remap", "error"),
        ({"remap_failure": True, "remap_pending": True}, "health-remap", "error"),
        ({"recovery_action": "Reset"}, "health-recovery", "error"),
        ({"persistence": False}, "health-persistence", "warning"),
    ],
)
def test_what_nvidia_smi_knows_of_a_gpu_is_judged(changes: dict[str, Any], code: str, severity: str) -> None:
    (found,) = find(proof(gpu(0)), host(smi(0, **changes)), Wanted())
    assert (found["code"], found["severity"]) == (code, severity)
    assert "GPU 0" in found["message"]


def test_bad_peer_copies_are_one_finding_for_each_kind_with_the_way_out() -> None:
    hang, wrong = other("hang", "copy to the other GPU", "no answer"), other("data", "compare", "bytes differ")
    pairs = [(0, 1, hang), (1, 0, wrong), (1, 2, wrong), (2, 1, None)]
    peers = [{"from": a, "to": b, "direct": True, "gb_per_s": 1.0, "error": error} for a, b, error in pairs]
    found = find(proof(gpu(0), peers=peers), host(smi(0)), Wanted())
    assert codes(found) == ["health-peer-hangs", "health-peer-copy"]
    assert "GPU 1 to 0, 1 to 2 goes wrong" in found[1]["message"]
    assert all("iommu=pt" in each["message"] and "NCCL_P2P_DISABLE=1" in each["message"] for each in found)


def test_memory_taken_between_two_steps_is_no_fault_of_the_way_between_gpus() -> None:
    peers = [{"from": 0, "to": 1, "direct": None, "gb_per_s": None, "error": cuda(2)}]
    assert find(proof(gpu(0), peers=peers), host(smi(0)), Wanted()) == []


def test_a_sandbox_that_shuts_cuda_out_is_told_from_a_sick_gpu() -> None:
    (found,) = find_as_user(proof(error=cuda(304, "cuInit")), "vllm")
    assert found["code"] == "health-service-user"
    assert "as vllm in the sandbox of the model servers cuInit fails with 304" in found["message"]
    assert find_as_user(proof(gpu(0, cuda(2))), "vllm") == [], "memory in use says nothing about the sandbox"


def test_the_table_has_a_row_for_each_gpu_and_each_host_without_one() -> None:
    facts = host(smi(0), smi(1, remap_pending=True))
    measured = proof(gpu(0), gpu(1))
    text = render(
        rows("gpu-01", measured, facts, find(measured, facts, Wanted())) + rows("gpu-02", proof(), {"nvidia": None}, [])
    )
    header, first, second, third = text.splitlines()
    assert header.split()[:4] == ["host", "gpu", "name", "pci"]
    assert re.search(
        rf"^gpu-01 +0 +H100 80GB HBM3 +0000:00:06.0 +09c8091d +{DRIVER} +79 +0.15 +6.1 +9.6 +Completed +none +ok$",
        first,
    )
    assert second.endswith("pending  health-remap")
    assert third.startswith("gpu-02  -")


def test_what_the_probe_reports_is_what_is_judged() -> None:
    measured = probe.prove(1 << 16, 30, program=program({"gpus": 2, "fail": {"cuCtxCreate_v2:1": 46}}))
    found = find(measured, {}, Wanted(2))
    assert codes(found) == ["health-gpu"]
    assert "46 CUDA_ERROR_DEVICE_UNAVAILABLE" in found[0]["message"]
    assert "health-gpu" in render(rows("gpu-01", measured, {}, found))


def test_every_code_stands_in_the_documentation_and_no_other() -> None:
    text = (ROOT / "docs/gpu-health.md").read_text()
    assert dict(re.findall(r"^\| `(health-[a-z-]+)` \| (.+) \|$", text, re.MULTILINE)) == CODES
