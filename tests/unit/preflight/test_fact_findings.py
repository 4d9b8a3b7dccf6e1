"""What is found in a host's facts: a case per code, each made by changing one thing of a healthy host."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from tests.unit.preflight.preflight_host import DRIVER, KERNEL, SERVER, WITHOUT_DRIVER, healthy_host, paths
from vllm_fleet.preflight.findings import Finding, Severity
from vllm_fleet.preflight.host import findings
from vllm_fleet.preflight.wanted import Wanted

E, W = Severity.ERROR, Severity.WARNING
NEWER = "6.12.43-amd64"
SERVERS = Wanted(servers=[SERVER])
BY_HAND = Wanted(driver_managed=False)
MAY_REBOOT = Wanted(reboot_allowed=True)
OLD_DRIVER = {"nvidia.module.version": "99.1", "nvidia.userspace_version": "99.1"}
NO_MODULE = {"kernels": [{"release": NEWER, "headers": False, "nvidia_module": None}]}
OLD_GPU = {"id": "10de:1db4", "name": "Tesla V100", "compute_capability": "7.0"}
PROCESS = {"pid": 4711, "name": "python3", "used_mib": 500, "user": "ann", "unit": None}


class Case(NamedTuple):
    """What is changed, the one finding that must follow, and words it must hold."""

    code: str
    severity: Severity
    changes: dict[str, Any]
    words: tuple[str, ...]
    wanted: Wanted = SERVERS


def with_process(**changes: Any) -> dict[str, Any]:
    return {"gpus.0.processes": [PROCESS | changes]}


def xid(number: int) -> dict[str, Any]:
    return {"nvidia.xids": [{"pci": "0000:18:00.0", "xid": number, "message": "..."}] * 2}


def need(owner: str, size: int, free: int = 10**12) -> dict[str, Any]:
    return {"owner": owner, "path": f"/srv/{owner}", "bytes": size, "mount": "/", "free_bytes": free}


CASES = [
    Case("platform-version", W, {"os.version_id": "11"}, ("11", "12, 13")),
    Case("platform-version", E, {**WITHOUT_DRIVER, "os.version_id": "11", "nvswitches": []}, ("driver yourself",)),
    Case("fact-unread", W, {"unread": [{"probe": "disks", "reason": "no answer within 20 s"}]}, ("'disks'", "20 s")),
    Case("python-too-old", E, {"python": "3.6.8"}, ("3.6.8", "ansible_python_interpreter")),
    Case("systemd-too-old", E, {"systemd": 239}, ("239", "247")),
    Case("clock-not-synchronized", W, {"time_synchronized": False}, ("timedatectl",)),
    Case("virtual-machine", W, {"virtualization": "kvm"}, ("kvm", "NCCL_P2P_DISABLE")),
    Case("memory-too-small", W, {"memory_total_bytes": 4 << 30}, ("4 GiB", "2 GPU processes")),
    Case("shm-too-small", W, {"shm_bytes": 64 << 20}, ("64 MiB", "/dev/shm")),
    Case("no-gpu", E, {**WITHOUT_DRIVER, "pci_gpus": [], "nvswitches": []}, ("vllm_runtime_backend: cpu",)),
    Case("gpu-too-old", E, {f"pci_gpus.0.{key}": value for key, value in OLD_GPU.items()}, ("7.0", "7.5", "V100")),
    Case("gpu-unknown", W, {"pci_gpus.0.compute_capability": None}, ("10de:2330",)),
    Case("gpu-driver-foreign", E, {"pci_gpus.0.driver": "vfio-pci"}, ("vfio-pci", "0000:18:00.0")),
    Case("gpu-driver-foreign", W, {"pci_gpus.0.driver": "nouveau"}, ("nouveau", "nvidia_driver_reboot_allowed: true")),
    Case("gpu-driver-foreign", W, {"pci_gpus.0.driver": "nova_core"}, ("nova_core", "reboots"), MAY_REBOOT),
    Case("gpu-driver-foreign", E, {"pci_gpus.0.driver": "nouveau"}, ("Blacklist nouveau",), BY_HAND),
    Case("gpu-lost", E, {"gpus": healthy_host()["gpus"][:7]}, ("GPU 0000:1f:00.0 is on the PCI bus",)),
    Case("gpu-lost", E, {"gpus": healthy_host()["gpus"][1:], **xid(79)}, ("0000:18:00.0", "fell off the bus")),
    Case("gpu-lost", E, {"gpus": None, "pci_gpus.0.responds": False, "nvidia.smi.state": "failed", **xid(79)},
         ("0000:18:00.0", "Xid 79")),
    Case("gpu-xid", E, xid(79), ("0000:18:00.0", "Xid 79", "off the bus", "Power-cycle")),
    Case("gpu-xid", E, xid(119), ("Xid 119", "GSP")),
    Case("gpu-xid", E, xid(95), ("Xid 95",)),
    Case("gpu-xid", E, xid(64), ("Xid 64", "Replace")),
    Case("gpu-xid", W, xid(48), ("Xid 48",)),
    Case("gpu-xid", W, xid(63), ("Xid 63",)),
    Case("gpu-xid", W, xid(94), ("Xid 94",)),
    Case("gpu-xid", W, {**xid(154), "gpus.0.recovery_action": None}, ("Xid 154",)),
    Case("gpu-remap-pending", E, {"gpus.3.remap_pending": True}, ("GPU 3", "--gpu-reset")),
    Case("gpu-remap-failed", E, {"gpus.3.remap_failure": True}, ("GPU 3", "Replace")),
    Case("gpu-ecc", W, {"gpus.3.ecc_uncorrected": 2}, ("GPU 3", "2 uncorrected")),
    Case("gpu-needs-reset", E, {"gpus.3.recovery_action": "Reset"}, ("GPU 3", "'Reset'")),
    Case("gpu-mig", E, {"gpus.3.mig": True}, ("nvidia-smi mig -i 3 -lgip", "nvidia-smi -i 3 -mig 0")),
    Case("gpu-mig", E, {"gpus.3.mig": True, "gpus.3.mig_devices": [{"index": 0, "uuid": None}]}, ("no instance",)),
    Case("gpu-persistence-off", W, {"gpus.3.persistence": False}, ("nvidia-persistenced",)),
    Case("driver-missing", E, {**WITHOUT_DRIVER, "nvswitches": []}, ("580", "nvidia_driver_manage"), BY_HAND),
    Case("driver-too-old", E, {**OLD_DRIVER, "nvswitches": []}, ("99.1", "580"), BY_HAND),
    Case("driver-too-old", W, {**OLD_DRIVER, "nvswitches": []}, ("99.1", "interrupted")),
    Case("driver-mismatch", E, {"nvidia.module.version": "580.95.05"}, ("580.95.05", DRIVER, "do not reinstall")),
    Case("driver-mismatch", E, {"nvidia.module.version": "580.95.05", "nvidia.smi.state": "failed"}, ("Reboot",)),
    Case("driver-mismatch", W, {"nvidia.module.version": "580.95.05"}, ("Reboot",), MAY_REBOOT),
    Case("driver-not-open", W, {"nvidia.module.open": False}, ("proprietary", "nvidia-open")),
    Case("driver-hangs", E, {"nvidia.smi": {"state": "hangs", "message": ""}, "gpus": None,
                             "unread": [{"probe": "smi", "reason": "did not answer"}]}, ("does not come back",)),
    Case("driver-not-answering", E, {"nvidia.smi": {"state": "failed", "message": "No devices."}, "gpus": None},
         ("No devices", "NVRM")),
    Case("driver-firmware", W, {"nvidia.firmware_versions": ["580.95.05"], "nvidia.smi.state": "missing"},
         (DRIVER, "580.95.05")),
    Case("driver-firmware", E, {"nvidia.firmware_versions": [], "nvidia.smi.state": "missing"}, (DRIVER,), BY_HAND),
    Case("kernel-without-module", E, NO_MODULE, (NEWER, "the next reboot into it loses the GPU", "headers"), BY_HAND),
    Case("kernel-without-module", W, NO_MODULE, (NEWER, "This run builds it")),
    Case("kernel-headers", W, {**WITHOUT_DRIVER, "kernels.0.headers": False, "nvswitches": []}, (KERNEL,)),
    Case("secure-boot-key-not-enrolled", E, {**WITHOUT_DRIVER, "secure_boot": {"enabled": True, "mok_enrolled": False}},
         ("mokutil --import", "console")),
    Case("secure-boot-key-not-enrolled", W, {**WITHOUT_DRIVER, "secure_boot": {"enabled": True, "mok_enrolled": None}},
         ("cannot be read",)),
    Case("compiler-older-than-kernel", W, {**WITHOUT_DRIVER, "compiler.cc": "gcc 9.5.0"}, ("gcc 9", "gcc-12")),
    Case("fabric-manager-missing", W, {"nvidia.fabric_manager.version": None, "gpus.0.fabric_state": "In Progress"},
         ("802", "4 NVSwitches")),
    Case("fabric-manager-missing", E, {"nvidia.fabric_manager.version": None}, (DRIVER,), BY_HAND),
    Case("fabric-manager-mismatch", W, {"nvidia.fabric_manager.version": "590.48.01"}, ("590.48.01", DRIVER)),
    Case("fabric-manager-mismatch", E, {"nvidia.fabric_manager.version": "580.159.4.1"}, ("hold both",), BY_HAND),
    Case("fabric-manager-down", E, {"nvidia.fabric_manager.active": False, "nvidia.fabric_manager.log": "no switch."},
         ("it said last: no switch. Run",)),
    Case("fabric-not-ready", E, {"gpus.5.fabric_state": "In Progress"}, ("GPU 5", "In Progress", "802")),
    Case("fabric-not-ready", E, dict.fromkeys([f"gpus.{n}.fabric_state" for n in range(8)], "Not Started"),
         ("GPU 0, 1, 2, 3, 4, 5, 6 and 7:",)),
    Case("fabric-not-ready", E, {"gpus.5.fabric_state": "In Progress", "gpus.5.compute_capability": "10.0"},
         ("nvlsm", "ib_umad")),
    Case("fabric-not-ready", E, {"gpus.5.fabric_status": "Failure"}, ("Failure",)),
    Case("iommu-translation", W, {"iommu.passthrough": False}, ("iommu=pt",)),
    Case("slow-gpu-link", W, {"links.0.type": "SYS"}, ("Server llm", "0 and 1")),
    Case("numa-without-memory", W, {"numa_nodes.1.memory_bytes": 0, "pci_gpus": healthy_host()["pci_gpus"][:5],
                                    "gpus": healthy_host()["gpus"][:5]}, ("0000:1c:00.0", "node 1")),
    Case("gpu-leftover", E, with_process(name="VLLM::Worker_TP0"), ("pid 4711", "user ann", "kill 4711")),
    Case("gpu-held", W, with_process(), ("python3 (pid 4711, user ann, 500 MiB)",)),
    Case("gpu-held", W, with_process(name="/opt/ollama", unit="ollama.service"), ("unit ollama.service",)),
    Case("gpu-memory-short", E, {"gpus.1.memory_free_mib": 40000}, ("GPU 1", "40000 of 81559", "llm take 57091")),
    Case("disk-too-small", E, {}, ("/srv/vllm_runtime 6.0 GB", "/srv/model_store 6.0 GB", "13.1 GB needed"),
         Wanted(disk_needs=[need("vllm_runtime", 6 * 10**9, 10**10), need("model_store", 6 * 10**9, 10**10)])),
    Case("disk-too-small", E, {**WITHOUT_DRIVER, "nvswitches": [], "disks.0.free_bytes": 10**9}, ("/usr 3.2 GB",)),
]  # fmt: skip


def codes(found: tuple[Finding, ...]) -> list[str]:
    return [one.code for one in found]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.code}-{case.severity}")
def test_one_fault_is_one_finding_with_what_was_found_and_what_to_do(case: Case) -> None:
    (found,) = findings(healthy_host(case.changes), case.wanted)
    assert (found.code, found.severity) == (case.code, case.severity)
    for word in case.words:
        assert word in found.message
    assert found.message.count(". ") >= 1, "what was found, then what to do"
    assert "\n" not in found.message


def test_a_healthy_host_gives_no_finding() -> None:
    assert findings(healthy_host(), SERVERS) == ()


def test_a_healthy_host_that_is_still_to_get_its_driver_gives_no_finding() -> None:
    assert findings(healthy_host({**WITHOUT_DRIVER, "nvswitches": []}), SERVERS) == ()
    assert findings(healthy_host(WITHOUT_DRIVER), SERVERS) == ()


def test_a_host_of_which_nothing_is_known_gives_no_finding() -> None:
    assert findings({}, SERVERS) == ()
    assert findings(dict.fromkeys(healthy_host()), SERVERS) == ()


# Where null says something: no module file, no Fabric Manager, a GPU not in the table, no address to compare by.
NULL_MEANS_NONE = ("nvidia_module", "fabric_manager.version", "compute_capability", "address")


@pytest.mark.parametrize("wanted", [SERVERS, BY_HAND], ids=["managed", "by-hand"])
def test_what_is_not_known_is_never_guessed(wanted: Wanted) -> None:
    for path in paths(healthy_host()):
        if path.rpartition(".")[2].isdigit() or path.endswith(NULL_MEANS_NONE):
            continue
        found = findings(healthy_host({path: None}), wanted)
        assert found == (), f"{path}: null gives {found}"


def test_on_the_cpu_backend_gpus_do_not_count() -> None:
    ill = healthy_host({"gpus.0.mig": True, "pci_gpus.1.driver": "vfio-pci", "nvidia.module.version": "1"})
    assert findings(ill, Wanted(backend="cpu")) == ()
    without_log = healthy_host({"unread": [{"probe": "xids", "reason": "no kernel log"}]})
    assert findings(without_log, Wanted(backend="cpu")) == ()


def test_versions_are_compared_as_numbers() -> None:
    gpu = {"pci_gpus.0.compute_capability": "10.0"}
    assert findings(healthy_host(gpu), SERVERS) == ()
    newer = dict.fromkeys(("nvidia.module.version", "nvidia.userspace_version"), "1000.1.1")
    newer |= {"nvidia.fabric_manager.version": "1000.01.1", "nvidia.firmware_versions": ["1000.1.1"]}
    assert findings(healthy_host(newer), SERVERS) == ()
    assert findings(healthy_host({"python": "3.14.0"}), SERVERS) == ()


def test_memory_our_own_units_hold_is_theirs_to_use_again() -> None:
    process = with_process(name="VLLM::EngineCore", unit="vllm-llm.service", used_mib=57000)
    assert findings(healthy_host({"gpus.0.memory_free_mib": 24000, **process}), SERVERS) == ()
    unknown = with_process(name="VLLM::EngineCore", unit="vllm-llm.service", used_mib=None)
    assert findings(healthy_host({"gpus.0.memory_free_mib": 24000, **unknown}), SERVERS) == ()


def test_a_foreign_process_that_leaves_too_little_memory_is_both_named_and_an_error() -> None:
    found = findings(healthy_host({"gpus.0.memory_free_mib": 40000, **with_process(used_mib=41000)}), SERVERS)
    assert codes(found) == ["gpu-memory-short", "gpu-held"]


def test_a_recovery_action_that_is_no_longer_asked_for_is_past() -> None:
    assert findings(healthy_host(xid(154)), SERVERS) == ()


def test_a_gpu_too_old_for_the_open_modules_is_not_told_to_take_them() -> None:
    old = {f"pci_gpus.0.{key}": value for key, value in OLD_GPU.items()}
    assert codes(findings(healthy_host({**old, "nvidia.module.open": False}), SERVERS)) == ["gpu-too-old"]


def test_a_loaded_module_passed_secure_boot_already() -> None:
    assert findings(healthy_host({"secure_boot": {"enabled": True, "mok_enrolled": False}}), SERVERS) == ()


def test_signed_modules_need_no_key() -> None:
    locked = healthy_host({**WITHOUT_DRIVER, "secure_boot": {"enabled": True, "mok_enrolled": False}})
    assert findings(locked, Wanted(presigned_modules=True)) == ()


def test_a_part_that_does_not_fit_by_itself_is_left_to_its_role() -> None:
    too_much = [need("vllm_runtime", 10**13, 10**10), need("model_store", 10**9, 10**10)]
    assert findings(healthy_host(), Wanted(disk_needs=too_much)) == ()


def test_file_systems_are_counted_apart() -> None:
    needs = [need("vllm_runtime", 6 * 10**9, 10**10), need("model_store", 6 * 10**9, 10**10) | {"mount": "/srv"}]
    assert findings(healthy_host(), Wanted(disk_needs=needs)) == ()


@pytest.mark.parametrize(
    ("identity", "release", "known"),
    [
        ({"id": "rocky", "id_like": ["rhel", "centos", "fedora"]}, "9.4", True),
        ({"id": "almalinux", "id_like": ["rhel"]}, "10.0", True),
        ({"id": "rhel", "id_like": ["fedora"]}, "7.9", False),
        ({"id": "ubuntu", "id_like": ["debian"]}, "24.04", True),
        ({"id": "ubuntu", "id_like": ["debian"]}, "25.10", False),
        ({"id": "debian", "id_like": []}, "13", True),
    ],
)
def test_releases_are_known_by_what_nvidia_has_packages_for(identity: Any, release: str, known: bool) -> None:
    found = findings(healthy_host({"os": {**identity, "version_id": release, "name": "X"}}), SERVERS)
    assert codes(found) == ([] if known else ["platform-version"])


def test_a_container_cannot_set_its_clock_and_is_not_told_to() -> None:
    changes = {"virtualization": "systemd-nspawn", "time_synchronized": False}
    assert findings(healthy_host(changes), SERVERS) == ()


def test_a_divided_gpu_is_fine() -> None:
    instance = {"index": 0, "uuid": "MIG-0", "profile": "3g.40gb", "gpu_instance": 2, "compute_instance": 0}
    assert findings(healthy_host({"gpus.3.mig": True, "gpus.3.mig_devices": [instance]}), SERVERS) == ()


def test_errors_come_first() -> None:
    found = findings(healthy_host({"gpus.0.persistence": False, "gpus.1.mig": True}), SERVERS)
    assert [one.severity for one in found] == [E, W]
