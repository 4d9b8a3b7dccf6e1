"""What the module reads of recorded and constructed hosts."""

from __future__ import annotations

from typing import Any

import pytest

from tests import hosts
from tests.hosts.replay import facts

SHAPE = facts("h100x8")
EVERY = pytest.mark.parametrize("name", hosts.names())


def only(values: list[Any]) -> Any:
    (value,) = {str(value): value for value in values}.values()
    return value


def test_the_set_has_recorded_hosts_and_each_says_where_it_comes_from() -> None:
    described = {name: hosts.named(name) for name in hosts.names()}
    assert {host.origin for host in described.values()} == set(hosts.ORIGINS)
    assert [name for name, host in described.items() if len(host.source) < 40] == []
    assert len(described) >= 12


@EVERY
def test_every_host_is_read_without_trouble_and_has_the_same_keys(name: str) -> None:
    found = facts(name)
    assert [one["probe"] for one in found["unread"]] == (["smi"] if name == "smi-hangs" else [])
    assert found.keys() == SHAPE.keys()
    assert found["nvidia"].keys() == SHAPE["nvidia"].keys()
    for part in ("os", "iommu", "secure_boot", "compiler"):
        assert found[part].keys() == SHAPE[part].keys()
    for gpu in found["gpus"] or []:
        assert gpu.keys() == SHAPE["gpus"][0].keys()


@EVERY
def test_driver_and_pci_table_agree_about_every_gpu(name: str) -> None:
    found = facts(name)
    by_address = {gpu["address"]: gpu for gpu in found["pci_gpus"]}
    for gpu in found["gpus"] or []:
        listed = by_address[gpu["pci_address"]]
        for key in ("name", "architecture", "compute_capability"):
            assert listed[key] == gpu[key]


def test_a_recorded_h100_is_read_as_nvidia_smi_showed_it() -> None:
    found = facts("h100-vm")
    (gpu,) = found["gpus"]
    assert (gpu["name"], gpu["pci_address"], gpu["compute_capability"]) == (
        "NVIDIA H100 80GB HBM3",
        "0000:00:06.0",
        "9.0",
    )
    assert (gpu["memory_total_mib"], gpu["memory_used_mib"], gpu["memory_free_mib"]) == (81559, 0, 81079)
    assert (gpu["persistence"], gpu["mig"], gpu["ecc"], gpu["ecc_uncorrected"]) == (True, False, True, 0)
    assert (gpu["fabric_state"], gpu["fabric_status"], gpu["recovery_action"]) == (None, None, "None")
    assert (gpu["remap_pending"], gpu["remap_failure"], gpu["minor"], gpu["processes"]) == (False, False, 0, [])
    assert found["nvidia"]["userspace_version"] == found["nvidia"]["module"]["version"] == "580.159.04"
    assert found["nvidia"]["module"]["open"] is True
    assert found["nvidia"]["cuda_version"] == "13.0"
    assert "nvidia-caps/nvidia-cap1" in found["nvidia"]["devices"]
    assert (found["os"]["version_id"], found["cpus"]) == ("24.04", list(range(16)))
    assert found["shm_bytes"] == 137438953472
    # No systemd there, and nothing may be guessed.
    assert found["systemd"] is found["time_synchronized"] is found["nvidia"]["fabric_manager"]["active"] is None


def test_a_recorded_h200_is_told_from_an_h100() -> None:
    (gpu,) = facts("h200-vm")["gpus"]
    assert (gpu["name"], gpu["memory_total_mib"]) == ("NVIDIA H200", 143771)


def test_a_healthy_nvswitch_board_has_its_switches_fabric_and_links() -> None:
    found = facts("h100x8")
    assert [switch["id"] for switch in found["nvswitches"]] == ["10de:22a3"] * 4
    assert only([(gpu["fabric_state"], gpu["fabric_status"]) for gpu in found["gpus"]]) == ("Completed", "Success")
    assert found["nvidia"]["fabric_manager"]["version"] == found["nvidia"]["module"]["version"]
    assert found["nvidia"]["fabric_manager"]["active"] is True
    assert "Successfully configured" in found["nvidia"]["fabric_manager"]["log"]
    assert found["nvidia"]["persistenced"] == {"active": True, "user": "nvidia-persistenced"}
    assert len(found["links"]) == 28
    assert only([link["type"] for link in found["links"]]) == "NV18"
    assert [gpu["numa_node"] for gpu in found["pci_gpus"]] == [0] * 4 + [1] * 4


def test_who_holds_memory_of_a_gpu_is_named_with_user_and_unit() -> None:
    holder = {"pid": 4242, "name": "VLLM::EngineCore", "used_mib": 71190, "gpu_instance": None}
    assert facts("h100x8")["gpus"][0]["processes"] == [holder | {"user": "vllm-llm", "unit": "vllm-llm.service"}]


def test_a_missing_fabric_manager_shows_though_nvidia_smi_is_content() -> None:
    found = facts("fabric-manager-missing")
    assert found["nvidia"]["smi"] == {"state": "ok", "message": None}
    assert found["nvidia"]["fabric_manager"] == {"version": None, "active": False, "log": None}
    assert only([(gpu["fabric_state"], gpu["fabric_status"]) for gpu in found["gpus"]]) == ("In Progress", None)


def test_a_row_waiting_to_be_remapped_is_seen_on_its_gpu_and_in_the_log() -> None:
    found = facts("a100x4")
    assert [gpu["remap_pending"] for gpu in found["gpus"]] == [False, False, True, False]
    assert (found["gpus"][2]["recovery_action"], found["gpus"][2]["ecc_uncorrected"]) == ("Reset", 1)
    assert [(xid["pci"], xid["xid"]) for xid in found["nvidia"]["xids"]] == [
        ("0000:81:00.0", 63),
        ("0000:81:00.0", 154),
    ]
    assert found["os"]["id_like"] == ["rhel", "centos", "fedora"]
    assert found["compiler"] == {"cc": "gcc 11.5.0", "kernel_cc": "gcc (GCC) 11.5.0 20240719 (Red Hat 11.5.0-5)"}


@pytest.mark.parametrize(
    ("name", "product", "capability", "mebibytes"),
    [
        ("l40s", "NVIDIA L40S", "8.9", 46068),
        ("rtx4090x2", "NVIDIA GeForce RTX 4090", "8.9", 24564),
        ("t4", "Tesla T4", "7.5", 15360),
        ("v100", "Tesla V100-SXM2-32GB", "7.0", 32768),
        ("h200x2", "NVIDIA H200 NVL", "9.0", 143771),
    ],
)
def test_products_have_their_name_capability_and_memory(
    name: str, product: str, capability: str, mebibytes: int
) -> None:
    gpus = facts(name)["gpus"]
    assert only([(gpu["name"], gpu["compute_capability"], gpu["memory_total_mib"]) for gpu in gpus]) == (
        product,
        capability,
        mebibytes,
    )


def test_what_a_geforce_does_not_know_is_null() -> None:
    gpu = facts("rtx4090x2")["gpus"][0]
    unknown = ("mig", "ecc", "ecc_uncorrected", "remap_pending", "remap_failure", "fabric_state")
    assert {key: gpu[key] for key in unknown} == dict.fromkeys(unknown)
    assert gpu["persistence"] is False


def test_a_cards_sound_function_is_no_gpu() -> None:
    assert [gpu["address"] for gpu in facts("rtx4090x2")["pci_gpus"]] == ["0000:01:00.0", "0000:02:00.0"]


def test_translation_by_the_iommu_is_read_from_what_the_kernel_does() -> None:
    assert facts("rtx4090x2")["iommu"] == {"enabled": True, "passthrough": False}
    assert facts("h100x8")["iommu"] == {"enabled": True, "passthrough": True}


def test_a_proprietary_module_is_told_from_an_open_one() -> None:
    module = facts("v100")["nvidia"]["module"]
    assert (module["open"], module["licence"]) == (False, "NVIDIA")


def test_a_host_without_gpu_says_so_and_nothing_else_is_missing() -> None:
    found = facts("no-gpu")
    assert (found["pci_gpus"], found["gpus"], found["nvidia"]["smi"]["state"]) == ([], None, "missing")
    assert (found["virtualization"], found["compiler"]["cc"]) == ("kvm", None)
    assert found["listeners"] == [{"port": 22, "pid": 900, "process": "sshd", "unit": "ssh.service"}]


def test_nouveau_is_seen_on_the_gpu_it_has_taken() -> None:
    found = facts("nouveau-loaded")
    assert (found["nvidia"]["nouveau_loaded"], found["nvidia"]["module"]["loaded"]) == (True, False)
    assert [(gpu["name"], gpu["driver"]) for gpu in found["pci_gpus"]] == [("NVIDIA RTX A4000", "nouveau")]
    assert [kernel["headers"] for kernel in found["kernels"]] == [False]


def test_libraries_of_another_version_than_the_module_are_seen() -> None:
    nvidia = facts("driver-userspace-mismatch")["nvidia"]
    assert (nvidia["module"]["version"], nvidia["userspace_version"]) == ("580.95.05", "580.126.09")
    assert nvidia["smi"]["state"] == "failed"
    assert "Driver/library version mismatch" in nvidia["smi"]["message"]


def test_the_kernel_that_will_lose_the_gpu_at_the_next_boot_is_found() -> None:
    kernels = {kernel["release"]: kernel for kernel in facts("driver-userspace-mismatch")["kernels"]}
    assert kernels["5.15.0-161-generic"] == {"release": "5.15.0-161-generic", "headers": False, "nvidia_module": None}
    assert kernels["5.15.0-157-generic"]["nvidia_module"].endswith("/updates/dkms/nvidia.ko")
    assert "5.15.0-139-generic" not in kernels, "a removed kernel's leftovers are no kernel"


def test_a_gpu_that_fell_off_the_bus_is_named_by_bus_and_log() -> None:
    found = facts("gpu-fallen-off-the-bus")
    assert {gpu["address"]: gpu["responds"] for gpu in found["pci_gpus"]} == {
        "0000:41:00.0": True,
        "0000:81:00.0": False,
    }
    assert [(xid["pci"], xid["xid"]) for xid in found["nvidia"]["xids"]] == [("0000:81:00.0", 79)]
    assert (found["gpus"], found["nvidia"]["smi"]["state"]) == (None, "failed")


def test_a_hanging_nvidia_smi_leaves_everything_else_readable() -> None:
    found = facts("smi-hangs")
    assert (found["gpus"], found["nvidia"]["smi"]["state"]) == (None, "hangs")
    (holder,) = found["nvidia"]["holders"]
    assert (holder["pid"], holder["user"], holder["unit"]) == (5151, "vllm-llm", "vllm-llm.service")
    (xid,) = found["nvidia"]["xids"]
    assert (xid["xid"], xid["count"]) == (119, 3)


def test_secure_boot_without_the_enrolled_key_is_seen_before_anybody_installs() -> None:
    found = facts("secure-boot")
    assert found["secure_boot"] == {"enabled": True, "mok_enrolled": False}
    module = found["nvidia"]["module"]
    assert (module["loaded"], module["version"], module["open"]) == (False, "580.159.04", True)


def test_a_path_is_reported_with_the_file_system_of_its_nearest_parent() -> None:
    (disk,) = facts("h100x8", "/srv/models/llm")["disks"]
    assert disk == {
        "path": "/srv/models/llm",
        "mount": "/",
        "free_bytes": 1607454384128,
        "total_bytes": 1919850381312,
    }
