"""Constructed hosts and servers for tests of the placement, and the plainest way to tell whether they fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import permutations, product
from typing import Any

from hypothesis import strategies as st

from vllm_fleet.plan.host import Device
from vllm_fleet.plan.placement.types import Placement, Request

GIB = 1 << 30
LIMIT, ALONE = 0.95, 0.92
NOTHING = 1e-9


def gpus(count: int, memory: int = 80, **keys: Any) -> list[Device]:
    """Return GPUs of so many GiB each."""
    return [Device(index, "GPU", memory * GIB, **keys) for index in range(count)]


def llm(name: str = "llm", ranks: int = 1, least: float | None = 20, **keys: Any) -> Request:
    """Return a server that can use more memory than the GiB it needs on each GPU."""
    return Request(name, "llm", ranks, None if least is None else int(least * GIB), True, **keys)


def encoder(name: str = "embedding", least: float | None = 3, **keys: Any) -> Request:
    """Return a server to which more memory than the GiB it needs is of no use."""
    return Request(name, "embedding", 1, None if least is None else int(least * GIB), False, **keys)


def running(requests: Sequence[Request], placement: Placement) -> list[Request]:
    """Return servers as they are once they run as placed."""
    return [
        replace(r, current_devices=placement.devices[r.name], current_share=placement.shares[r.name]) for r in requests
    ]


def held(device: Device) -> float:
    """Return the fraction of a device that others hold."""
    return device.held_bytes / device.memory_bytes


def possible(requests: Sequence[Request], devices: Sequence[Device]) -> bool:
    """Try every way to give servers devices; nothing runs yet."""
    return any(
        _fits(dict(zip([r.name for r in requests], choice, strict=True)), requests, devices)
        for choice in product(*[list(_choices(r, devices)) for r in requests])
    )


def _choices(request: Request, devices: Sequence[Device]) -> Iterator[tuple[Device, ...]]:
    for group in permutations(devices, request.ranks):
        indices = tuple(device.index for device in group)
        in_order = request.devices == indices if request.devices is not None else list(indices) == sorted(indices)
        if in_order and not (request.ranks > 1 and any(device.mig for device in group)):
            yield group


def _fits(groups: Mapping[str, Sequence[Device]], requests: Sequence[Request], devices: Sequence[Device]) -> bool:
    for device in devices:
        here = [request for request in requests if device in groups[request.name]]
        shares = [least_share(request, groups[request.name]) for request in here]
        whole, room = 1 - held(device), LIMIT - held(device)
        for request, share in zip(here, shares, strict=True):
            if request.share is None and share > min(ALONE, room) + NOTHING:
                return False
            if request.share is None and request.least is None and len(here) > 1:
                return False
        if here and sum(shares) > (whole if len(here) == 1 and here[0].share is not None else room) + NOTHING:
            return False
    return True


def least_share(request: Request, group: Sequence[Device]) -> float:
    """Return the smallest share, in hundredths, that holds what a server needs on each device."""
    if request.share is not None:
        return request.share
    if request.least is None:
        return max(int(min(ALONE, LIMIT - held(device)) * 100 + NOTHING) for device in group) / 100
    return max(-(-request.least * 100 // device.memory_bytes) for device in group) / 100


SIZES = st.sampled_from([4, 9, 20, 33, 41, 60, 75])


@st.composite
def hosts(draw: st.DrawFn, most: int = 4) -> list[Device]:
    """Draw a host: GPUs of one kind or of two, some in use by others, some instances (MIG)."""
    count = draw(st.integers(1, most))
    memory = st.sampled_from(draw(st.sampled_from([[80], [80, 48], [24]])))
    in_use = st.sampled_from([0, 0, 0, 7, 30])
    mig = draw(st.sampled_from([False, False, False, True]))
    return [
        Device(index, "GPU", size * GIB, held_bytes=min(draw(in_use), size) * GIB, mig=mig and draw(st.booleans()))
        for index, size in enumerate(draw(st.lists(memory, min_size=count, max_size=count)))
    ]


@st.composite
def servers(draw: st.DrawFn, devices: Sequence[Device], most: int = 4) -> list[Request]:
    """Draw servers: of unknown models, with declared shares or devices, of one rank or more."""
    found = []
    for number in range(draw(st.integers(1, most))):
        ranks = draw(st.sampled_from([1, 1, 1, 2, 3]))
        share = draw(st.sampled_from([None, None, None, 0.1, 0.3, 0.65, 0.97]))
        # A share too small for its server is judged once that is placed: here each is large enough.
        least = draw(SIZES if share is None else st.just(1)) * GIB
        known = draw(st.integers(0, 9)) > 0
        declared = None
        if ranks <= len(devices) and not draw(st.integers(0, 4)):
            declared = tuple(draw(st.permutations(range(len(devices))))[:ranks])
        kind, elastic = draw(st.sampled_from([("llm", True), ("embedding", False)]))
        found.append(Request(f"s{number}", kind, ranks, least if known else None, elastic, declared, share))
    return found
