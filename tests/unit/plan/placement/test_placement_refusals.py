"""What keeps servers from their devices is said with the numbers of both, and what would help."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.placements import ALONE, GIB, LIMIT, encoder, gpus, llm
from vllm_fleet.plan.host import Device
from vllm_fleet.plan.placement.place import place
from vllm_fleet.plan.placement.types import Request
from vllm_fleet.plan.problems import Change, Problem

NODES = {(0, 1): "NODE", (2, 3): "NODE", (0, 2): "SYS", (0, 3): "SYS", (1, 2): "SYS", (1, 3): "SYS"}


def refused(requests: list[Request], devices: list[Device]) -> list[Problem]:
    placement, problems = place(requests, devices, None, LIMIT, ALONE)
    assert placement is None
    return problems


def more(count: int) -> tuple[Change, ...]:
    return (Change(None, "gpus", count),)


def free(*names: str, key: str = "gpus") -> tuple[Change, ...]:
    return tuple(Change(name, key, None) for name in names)


def share(name: str, value: float | None) -> tuple[Change, ...]:
    return (Change(name, "gpu_memory_utilization", value),)


REFUSALS: dict[str, tuple[list[Request], list[Device], str, tuple[Any, ...]]] = {
    "a GPU that is not there": (
        [llm(devices=(2,))],
        gpus(2),
        "server llm: wants GPU 2, the host has 2 GPUs",
        (free("llm"), more(3)),
    ),
    "more ranks than GPUs": (
        [llm(ranks=4)],
        gpus(2),
        "server llm: tensor_parallel_size 4 wants 4 GPUs, the host has 2 GPUs",
        ((Change("llm", "tensor_parallel_size", 2),), more(4)),
    ),
    "no GPU at all": ([llm()], [], "server llm: tensor_parallel_size 1 wants 1 GPU, the host has none", ()),
    "ranks on MIG instances": (
        [llm(ranks=2, least=8)],
        gpus(2, memory=20, mig=True),
        "server llm: tensor_parallel_size 2 wants 2 whole GPUs; MIG instances cannot be joined (GPUs 0 and 1)",
        ((Change("llm", "tensor_parallel_size", 1),),),
    ),
    "more memory than a GPU has": (
        [llm(least=60)],
        gpus(2, memory=48),
        "server llm: needs 60.0 GiB; GPUs 0 and 1 (GPU, 48.0 GiB) can give 44.2 GiB (0.92) each",
        (),
    ),
    "more memory than others leave": (
        [llm(least=60, devices=(0,))],
        [replace(gpus(1)[0], held_bytes=40 * GIB), gpus(2)[1]],
        "server llm: needs 60.0 GiB; GPU 0 (GPU, 80.0 GiB) can give 36.0 GiB (0.45), other processes hold 40.0 GiB",
        (free("llm"),),
    ),
    "declared shares that add up to too much": (
        [llm(share=0.9, devices=(0,)), encoder(share=0.2, devices=(0,))],
        gpus(2),
        "GPU 0: gpu_memory_utilization adds up to 1.1 (embedding 0.2, llm 0.9); "
        "GPU 0 (GPU, 80.0 GiB) can give 76.0 GiB (0.95)",
        (free("embedding"),),
    ),
    "a declared share that leaves too little": (
        [llm(share=0.9, devices=(0,)), encoder(least=8, devices=(0,))],
        gpus(1),
        "GPU 0: gpu_memory_utilization adds up to 1 (embedding 0.1 for the 8.0 GiB it needs, llm 0.9); "
        "GPU 0 (GPU, 80.0 GiB) can give 76.0 GiB (0.95)",
        (share("llm", None),),
    ),
    "servers too many": (
        [llm("a", least=50), llm("b", least=40)],
        gpus(1),
        "host: the servers do not fit together: a needs 50.0 GiB; b needs 40.0 GiB. "
        "GPU 0 (GPU, 80.0 GiB) can give 76.0 GiB (0.95)",
        (more(2),),
    ),
    "an unknown model beside others": (
        [llm("known", least=30), llm("unknown", least=None)],
        gpus(1),
        "server unknown: needs 1 GPU to itself, as nothing is known of the memory of its model, "
        "but the others leave none free",
        (share("unknown", 0.55), more(2)),
    ),
    "an unknown model declared beside others": (
        [llm("known", devices=(0,)), llm("unknown", least=None, devices=(0,))],
        gpus(1),
        "server unknown: needs 1 GPU to itself, as nothing is known of the memory of its model, "
        "but GPU 0 is declared for known as well",
        (share("unknown", 0.7),),
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_a_refusal_gives_numbers_and_what_would_help(case: str) -> None:
    requests, devices, message, remedies = REFUSALS[case]
    (problem,) = refused(requests, devices)
    assert str(problem) == message
    assert problem.severity == "error"
    assert problem.remedies == remedies


def test_all_that_are_impossible_by_themselves_are_told_at_once() -> None:
    found = refused([llm("a", ranks=4), llm("b", least=90), llm("c")], gpus(2))
    assert [(problem.where, problem.code) for problem in found] == [
        ("server a", "plan-placement"),
        ("server b", "plan-memory"),
    ]


def test_gpus_promised_twice_to_the_same_servers_are_told_once() -> None:
    requests = [llm(name, ranks=2, share=0.5, devices=(0, 1)) for name in "ab"]
    assert [problem.where for problem in refused(requests, gpus(2))] == ["GPU 0"]


def test_a_server_that_fits_only_if_others_move_says_which() -> None:
    servers = [
        encoder("a", least=30, current_devices=(0,), current_share=0.38),
        encoder("b", least=30, current_devices=(1,), current_share=0.38),
    ]
    (problem,) = refused([*servers, llm("c", least=60)], gpus(2))
    assert str(problem) == "server c: needs 60.0 GiB, for which there is room only if running servers move"
    assert problem.remedies == ((Change("a", "gpus", [1]),), more(3))
    moved = [replace(servers[0], devices=(1,)), servers[1], llm("c", least=60)]
    placement, _ = place(moved, gpus(2), None, LIMIT, ALONE)
    assert placement is not None
    assert placement.devices == {"a": (1,), "b": (1,), "c": (0,)}


@pytest.mark.parametrize(
    ("devices", "others", "remedy"),
    [((0, 2), [], ((Change("llm", "gpus", [0, 1]),),)), ((1, 2), [llm("o", 2, 60, devices=(0, 3))], ())],
    ids=["closer GPUs are free", "no closer GPUs are free"],
)
def test_ranks_that_meet_between_processors_are_doubted(
    devices: tuple[int, ...], others: list[Request], remedy: tuple[Any, ...]
) -> None:
    placement, problems = place([llm(ranks=2, least=60, devices=devices), *others], gpus(4), NODES, LIMIT, ALONE)
    assert placement is not None
    (doubt,) = [problem for problem in problems if problem.where == "server llm"]
    assert (doubt.severity, doubt.code, doubt.remedies) == ("warning", "plan-placement", remedy)
    assert "which are joined only by the bus between processors" in doubt.message


@pytest.mark.parametrize("links", [None, {(0, 2): "NV4", (1, 3): "NV4"}], ids=["links unknown", "NVLink"])
def test_ranks_that_may_be_joined_by_nvlink_are_not_doubted(links: dict[tuple[int, int], str] | None) -> None:
    devices = [replace(device, numa_node=device.index // 2) for device in gpus(4)]
    assert place([llm(ranks=2, devices=(0, 2))], devices, links, LIMIT, ALONE)[1] == []
