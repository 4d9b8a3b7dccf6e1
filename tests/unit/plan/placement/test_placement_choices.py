"""Which of many possible placements is taken, and how memory is shared out."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from tests.placements import ALONE, GIB, LIMIT, encoder, gpus, llm, running
from vllm_fleet.plan.host import Device
from vllm_fleet.plan.placement.place import place
from vllm_fleet.plan.placement.types import Placement, Request

Links = dict[tuple[int, int], str]
PAIRS: Links = {(0, 1): "NV4", (2, 3): "NV4", (0, 2): "SYS", (0, 3): "SYS", (1, 2): "SYS", (1, 3): "SYS"}
RING: Links = {(0, 1): "NV1", (1, 2): "NV1", (2, 3): "NV1", (0, 3): "NV1", (0, 2): "PHB", (1, 3): "PHB"}
SWITCH: Links = {(a, b): "NV18" for a in range(8) for b in range(a + 1, 8)}
NONE: Links = {(a, b): "NODE" if a // 4 == b // 4 else "SYS" for a in range(8) for b in range(a + 1, 8)}


def placed(requests: list[Request], devices: list[Device], links: Links | None = None) -> Placement:
    placement, problems = place(requests, devices, links, LIMIT, ALONE)
    assert placement is not None, problems
    return placement


EMBEDDING, RERANK = encoder("embedding"), encoder("rerank")

CHOICES = {
    "one GPU holds all three": ([llm(), EMBEDDING, RERANK], 1, None, {"llm": (0,), "embedding": (0,), "rerank": (0,)}),
    "encoders burden the ranks of an LLM alike": (
        [llm(ranks=2), EMBEDDING, RERANK],
        2,
        None,
        {"llm": (0, 1), "embedding": (0,), "rerank": (1,)},
    ),
    "encoders go beside the LLM and leave GPUs free for the next": (
        [llm(), EMBEDDING, RERANK],
        4,
        None,
        {"llm": (0,), "embedding": (0,), "rerank": (0,)},
    ),
    "encoders go beside the LLM with most room": (
        [llm("large", least=60), llm("small", least=10), EMBEDDING],
        2,
        None,
        {"large": (0,), "small": (1,), "embedding": (1,)},
    ),
    "encoders spread where there is no LLM": ([EMBEDDING, RERANK], 4, None, {"embedding": (0,), "rerank": (1,)}),
    "LLMs take GPUs of their own": ([llm("a"), llm("b"), llm("c")], 3, None, {"a": (0,), "b": (1,), "c": (2,)}),
    "LLMs share a GPU when there is no other": ([llm("a"), llm("b")], 1, None, {"a": (0,), "b": (0,)}),
    "ranks stay on an island of NVLink": (
        [llm("pinned", devices=(0,)), llm("two", ranks=2)],
        4,
        PAIRS,
        {"pinned": (0,), "two": (2, 3)},
    ),
    "a single rank breaks an island that is broken already": (
        [llm("pinned", devices=(2,)), llm("one")],
        4,
        PAIRS,
        {"pinned": (2,), "one": (3,)},
    ),
    "a ring of NVLink is one island": ([llm(ranks=4)], 4, RING, {"llm": (0, 1, 2, 3)}),
    "ranks stay on one processor where there is no NVLink": (
        [llm("pinned", devices=(1,)), llm("four", ranks=4)],
        8,
        NONE,
        {"pinned": (1,), "four": (4, 5, 6, 7)},
    ),
    "declared GPUs are taken in their order": ([llm(ranks=2, devices=(3, 1))], 4, None, {"llm": (3, 1)}),
    "a declared share goes where it is enough": ([llm(share=0.3, least=20)], 2, None, {"llm": (0,)}),
    "a server of which nothing is known gets a GPU to itself": (
        [llm("unknown", least=None), llm("known")],
        2,
        None,
        {"unknown": (0,), "known": (1,)},
    ),
}


@pytest.mark.parametrize("case", CHOICES)
def test_the_better_devices_are_chosen(case: str) -> None:
    requests, count, links, expected = CHOICES[case]
    assert placed(requests, gpus(count), links).devices == expected


def test_links_unknown_the_numa_nodes_decide() -> None:
    devices = [replace(device, numa_node=device.index % 2) for device in gpus(4)]
    assert placed([llm(ranks=2)], devices).devices == {"llm": (0, 2)}


def test_the_largest_llm_gets_the_largest_gpu() -> None:
    devices = [*gpus(1, memory=24), Device(1, "GPU", 80 * GIB)]
    assert placed([llm("a", least=10), llm("b", least=12)], devices).devices == {"a": (0,), "b": (1,)}


def test_gpus_that_others_use_are_avoided() -> None:
    devices = [replace(gpus(1)[0], held_bytes=40 * GIB), *gpus(2)[1:]]
    assert placed([llm()], devices).devices == {"llm": (1,)}


SHARES = {
    "an LLM alone takes what one server may": ([llm()], {"llm": 0.92}),
    "an LLM takes what encoders leave": ([llm(), EMBEDDING, RERANK], {"llm": 0.87, "embedding": 0.04, "rerank": 0.04}),
    "an encoder takes no more than it needs": ([encoder(least=8)], {"embedding": 0.1}),
    "two LLMs get what they need and halves of the rest": (
        [llm("a", least=40), llm("b", least=8)],
        {"a": 0.67, "b": 0.27},
    ),
    "a declared share is kept to the digit": ([llm(share=0.333), EMBEDDING], {"llm": 0.333, "embedding": 0.04}),
    "an LLM takes what a declared share leaves": ([llm(), encoder(share=0.1234)], {"llm": 0.82, "embedding": 0.1234}),
    "the only server of a GPU may declare more": ([llm(share=0.98)], {"llm": 0.98}),
    "nothing is known": ([llm(least=None)], {"llm": 0.92}),
    "nothing is known but the share": ([llm(least=None, share=0.5), EMBEDDING], {"llm": 0.5, "embedding": 0.04}),
}


@pytest.mark.parametrize("case", SHARES)
def test_memory_is_shared_out(case: str) -> None:
    requests, expected = SHARES[case]
    assert placed(requests, gpus(1)).shares == expected


def test_all_ranks_get_the_share_that_the_fullest_gpu_leaves() -> None:
    found = placed([llm(ranks=2), encoder(least=16, devices=(1,))], gpus(2))
    assert found.shares == {"llm": 0.75, "embedding": 0.2}


def test_on_gpus_of_two_sizes_one_share_is_enough_for_both() -> None:
    devices = [*gpus(1, memory=24), Device(1, "GPU", 80 * GIB)]
    assert placed([encoder("a", least=12, devices=(0,)), llm(ranks=2, least=8)], devices).shares["llm"] == 0.45


def test_what_others_hold_is_left_to_them() -> None:
    devices = [replace(gpus(1)[0], held_bytes=20 * GIB)]
    assert placed([llm()], devices).shares == {"llm": 0.7}


def test_an_encoder_that_comes_later_goes_where_nothing_has_to_start_again() -> None:
    before = placed([llm()], gpus(2))
    after = placed([*running([llm()], before), EMBEDDING], gpus(2))
    assert after == Placement({**before.devices, "embedding": (1,)}, {**before.shares, "embedding": 0.04})


def test_on_a_full_host_a_running_llm_makes_room_but_stays() -> None:
    before = placed([llm()], gpus(1))
    after = placed([*running([llm()], before), EMBEDDING], gpus(1))
    assert (after.devices["llm"], after.shares["llm"]) == ((0,), 0.91)


@pytest.mark.parametrize(
    ("change", "devices", "expected"),
    [
        ({}, gpus(2), (1,)),
        ({"least": 30 * GIB}, gpus(2), (1,)),
        ({"least": 78 * GIB}, [gpus(1)[0], Device(1, "GPU", 80 * GIB), Device(2, "GPU", 141 * GIB)], (2,)),
        ({"devices": (0,)}, gpus(2), (0,)),
        ({}, gpus(1), (0,)),
    ],
    ids=["nothing changed", "it still fits", "it has outgrown its GPU", "it is declared elsewhere", "its GPU is gone"],
)
def test_a_running_server_moves_for_a_reason_of_its_own_only(
    change: dict[str, object], devices: list[Device], expected: tuple[int, ...]
) -> None:
    request = replace(llm(current_devices=(1,), current_share=0.92), **change)
    assert placed([request], devices).devices == {"llm": expected}


def test_a_hundredth_more_that_others_hold_starts_nothing_again() -> None:
    before = placed([llm(), EMBEDDING], gpus(1))
    devices = [replace(gpus(1)[0], held_bytes=GIB // 2)]
    assert placed(running([llm(), EMBEDDING], before), devices) == before


def test_two_hundred_hosts_of_eight_gpus_take_far_less_than_a_second() -> None:
    servers = [llm("a", 4, 40), llm("b", 2, 40), llm("c"), llm("d"), *[encoder(f"e{n}", 2 + n / 2) for n in range(6)]]
    begun = time.process_time()
    for links in (SWITCH, NONE) * 100:
        placed(servers, gpus(8), links)
    assert time.process_time() - begun < 1
