"""What the plan takes from the facts of a host."""

from __future__ import annotations

from typing import Any

import pytest

from tests import hosts
from tests.hosts.replay import facts
from vllm_fleet.plan.host import Device, Host

MIB, GIB = 1 << 20, 1 << 30


def host(name: str, **changes: Any) -> Host:
    return Host.from_facts(name, "192.0.2.1", {**facts(name), **changes})


def devices(name: str, **changes: Any) -> tuple[Device, ...]:
    return host(name, **changes).devices("cuda")


def gpu(**changes: Any) -> dict[str, Any]:
    return {**facts("h100-vm")["gpus"][0], **changes}


# What cuMemGetInfo calls total, measured on the machines that these hosts were recorded on.
@pytest.mark.parametrize(("name", "total"), [("h100-vm", 85_017_493_504), ("h200-vm", 150_109_880_320)])
def test_memory_is_what_cuda_calls_total(name: str, total: int) -> None:
    (device,) = devices(name)
    assert abs(device.memory_bytes - total) < MIB, "nvidia-smi tells whole MiB"


def test_memory_is_the_same_whoever_holds_some_of_it() -> None:
    assert len({device.memory_bytes for device in devices("h100x8")}) == 1


def test_gpus_have_their_numa_node_capability_and_links() -> None:
    found = host("h100x8")
    assert [device.numa_node for device in found.devices("cuda")] == [0] * 4 + [1] * 4
    assert {device.compute_capability for device in found.devices("cuda")} == {(9, 0)}
    assert found.links is not None
    assert (len(found.links), found.links[0, 7], found.assumed) == (28, "NV18", False)
    assert [(device.visible_as, device.lock) for device in found.devices("cuda")[:2]] == [
        ("0", "gpu-0"),
        ("1", "gpu-1"),
    ]


@pytest.mark.parametrize(
    ("processes", "held"),
    [
        ([], 0),
        ([{"used_mib": 71190, "unit": "vllm-llm.service"}], 0),
        ([{"used_mib": 500, "unit": "jupyter.service"}, {"used_mib": 24, "unit": None}], 524),
        ([{"used_mib": 500, "unit": "not-vllm-llm.service"}, {"used_mib": None, "unit": None}], 500),
    ],
)
def test_memory_is_held_by_processes_that_are_not_ours(processes: list[dict[str, Any]], held: int) -> None:
    (device,) = devices("h100-vm", gpus=[gpu(processes=processes)])
    assert device.held_bytes == held << 20


def test_instances_of_a_divided_gpu_are_devices_after_the_gpus() -> None:
    whole, first, second, third = devices("mig-a100x2")
    assert [device.index for device in (whole, first, second, third)] == [1, 2, 3, 4]
    assert (whole.visible_as, whole.lock, whole.mig) == (facts("mig-a100x2")["gpus"][1]["uuid"], "gpu-1", False)
    assert (first.name, first.memory_bytes, first.mig) == ("NVIDIA A100-SXM4-80GB MIG 3g.40gb", 40192 << 20, True)
    assert {device.lock for device in (first, second, third)} == {"gpu-0"}
    assert all(device.visible_as.startswith("MIG-") for device in (first, second, third))
    # What a unit of ours holds is its own; what somebody holds of one instance is not held of the others.
    assert [device.held_bytes >> 20 for device in (first, second, third)] == [0, 900, 0]


def test_links_are_those_of_whole_gpus() -> None:
    assert facts("mig-a100x2")["links"]
    assert host("mig-a100x2").links == {}


def test_compute_instances_that_share_memory_are_one_device() -> None:
    shared = [dict(one, gpu_instance=2) for one in facts("mig-a100x2")["gpus"][0]["mig_devices"]]
    (device,) = devices("h100-vm", gpus=[gpu(mig=True, mig_devices=shared)])
    assert device.visible_as == shared[0]["uuid"]


def test_a_divided_gpu_without_instances_is_no_device() -> None:
    assert devices("h100-vm", gpus=[gpu(mig=True, mig_devices=[])]) == ()


@pytest.mark.parametrize("name", ["nouveau-loaded", "smi-hangs", "secure-boot", "driver-userspace-mismatch"])
def test_before_a_driver_answers_gpus_are_assumed_by_their_kind(name: str) -> None:
    found = host(name)
    assert (found.assumed, found.links) == (True, None)
    on_bus = facts(name)["pci_gpus"]
    assert [device.name for device in found.devices("cuda")] == [one["name"] for one in on_bus]
    assert all(device.memory_bytes > 15 * GIB for device in found.devices("cuda"))


def test_what_is_assumed_is_never_more_than_what_the_driver_tells_later() -> None:
    for name in hosts.names():
        told = facts(name)["gpus"] or []
        if not any(one["mig"] for one in told):
            pairs = zip(devices(name, gpus=None), devices(name), strict=True) if told else ()
            for assumed, real in pairs:
                assert real.memory_bytes - GIB < assumed.memory_bytes <= real.memory_bytes
                assert assumed.compute_capability == real.compute_capability


@pytest.mark.parametrize(
    ("change", "count"),
    [
        ({"pci_gpus": None}, None),
        ({"pci_gpus": []}, 0),
        ({"pci_gpus": [{"address": "0000:01:00.0", "name": None, "compute_capability": "9.0"}]}, None),
    ],
)
def test_where_the_bus_tells_too_little_nothing_is_assumed(change: dict[str, Any], count: int | None) -> None:
    gpus = host("no-gpu", **change).gpus
    assert (None if gpus is None else len(gpus)) == count


def test_a_gpu_that_no_driver_will_show_is_not_assumed() -> None:
    on_bus = facts("driver-userspace-mismatch")["pci_gpus"]
    taken = [dict(on_bus[0], driver="vfio-pci"), on_bus[1]]
    assert [device.index for device in devices("driver-userspace-mismatch", pci_gpus=taken)] == [0]
    assert [one["responds"] for one in facts("gpu-fallen-off-the-bus")["pci_gpus"]].count(False) == 1
    assert len(devices("gpu-fallen-off-the-bus")) == 1


def test_a_gpu_that_does_not_tell_its_memory_has_that_of_its_kind() -> None:
    silent = gpu(memory_total_mib=None, memory_used_mib=None, memory_free_mib=None)
    (told,), (by_kind,) = devices("h100-vm"), devices("h100-vm", gpus=[silent])
    assert told.memory_bytes - GIB < by_kind.memory_bytes <= told.memory_bytes


def test_a_gpu_without_memory_of_its_own_has_that_of_the_host() -> None:
    integrated = gpu(
        name="NVIDIA GB10",
        compute_capability="12.1",
        memory_total_mib=None,
        memory_used_mib=None,
        memory_free_mib=None,
    )
    (device,) = devices("h100-vm", gpus=[integrated])
    assert device.memory_bytes == facts("h100-vm")["memory_total_bytes"]


def test_the_device_of_a_host_without_gpus_is_its_main_memory() -> None:
    found = host("no-gpu")
    (device,) = found.devices("cpu")
    assert (device.index, device.name, device.memory_bytes, device.lock) == (
        0,
        "main memory",
        found.memory_bytes,
        "cpu",
    )
    assert found.devices("cuda") == ()


@pytest.mark.parametrize(("name", "kind"), [("h100x8", "NV18"), ("rtx4090x2", "NODE")])
def test_more_gpus_are_like_those_there_are(name: str, kind: str) -> None:
    found = host(name)
    count = len(found.devices("cuda"))
    more = found.with_gpus(count + 2)
    assert [device.index for device in more.devices("cuda")] == list(range(count + 2))
    assert [device.visible_as for device in more.devices("cuda")[count:]] == [str(count), str(count + 1)]
    assert more.links is not None
    assert more.links[0, count] == more.links[count, count + 1] == kind
    assert more.with_gpus(count).devices("cuda") == found.devices("cuda")
    fewer = found.with_gpus(1)
    assert (len(fewer.devices("cuda")), fewer.links) == (1, {})


def test_more_gpus_of_a_host_with_a_divided_one_are_whole() -> None:
    assert [(device.index, device.mig) for device in host("mig-a100x2").with_gpus(5).devices("cuda")][3:] == [
        (4, True),
        (5, False),
    ]
