"""Place servers by what they take of memory, or say what does not fit."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from vllm_fleet.plan.declaration import ModelServer
from vllm_fleet.plan.host import Device, Host
from vllm_fleet.plan.memory.demand import Demand
from vllm_fleet.plan.memory.estimate import estimate
from vllm_fleet.plan.models.facts import ModelFacts
from vllm_fleet.plan.placement.place import place
from vllm_fleet.plan.placement.types import Placement, Request
from vllm_fleet.plan.problems import Problem
from vllm_fleet.plan.sentences import gib
from vllm_fleet.plan.settings import Settings

MOST_TRIES = 4


@dataclass(frozen=True)
class Case:
    """A declared server, what is known of its model, and what of it runs now (as model_server_facts says)."""

    server: ModelServer
    facts: ModelFacts | None
    now: Mapping[str, Any]

    @property
    def max_model_len(self) -> int | None:
        """The greatest length of a request in tokens: declared, or the model's own."""
        return self.server.max_model_len or (self.facts.length if self.facts else None)

    def with_keys(self, **changes: Any) -> Case:
        """Return the case with other values of keys of the declaration."""
        return replace(self, server=replace(self.server, **changes))


@dataclass(frozen=True)
class Solution:
    """Where each server goes, and what one rank of it takes (of servers whose model is known)."""

    placement: Placement
    demands: Mapping[str, Demand]


def solve(
    cases: Sequence[Case], host: Host, settings: Settings, help_along: bool = False
) -> tuple[Solution | None, list[Problem]]:
    """Return where all servers go, or None and what keeps them from it; doubts come with either.

    With `help_along` changes that would help come with errors, too.
    """
    devices = host.devices(settings.backend)
    demands = {
        case.server.name: estimate(case.server, case.facts, _device(case, devices), settings, case.now.get("record"))
        for case in cases
        if case.facts is not None and devices
    }
    if settings.backend == "cpu":
        return Solution(Placement({case.server.name: () for case in cases}, {}), demands), []
    if host.gpus is None:
        return Solution(_as_declared(cases), {}), []
    # First with room for the error of every estimate; a host too small for that may still do.
    problems: list[Problem] = []
    for pessimistic in (True, False):
        requests = [_request(case, demands.get(case.server.name), host, settings, pessimistic) for case in cases]
        limit = settings.gpu_memory_limit
        for _ in range(MOST_TRIES):
            placement, problems = place(
                requests, devices, host.links, limit, settings.gpu_memory_alone, help_along and not pessimistic
            )
            if placement is None:
                break
            over = overflow(placement, demands, devices)
            most = max(over.values(), default=0.0)
            if most <= 0:
                return Solution(placement, demands), problems
            problems = [_too_full(device, part) for device in devices if (part := over.get(device.index, 0)) > 0]
            # What lies outside of the shares, CUDA's contexts above all, finds room beside smaller ones.
            limit = math.floor((limit - most) * 100) / 100
    return None, problems


def least_bytes(demand: Demand, pessimistic: bool) -> int:
    """Return the smallest share in bytes, if the estimate errs to the server's disadvantage or in its favour."""
    if pessimistic:
        return demand.least
    return max(demand.least - 2 * (demand.counted if demand.kv_least else demand.fixed).error, 1)


def overflow(placement: Placement, demands: Mapping[str, Demand], devices: Sequence[Device]) -> dict[int, float]:
    """Return by how much of each shared device its servers exceed it when one of them starts beside the others."""
    over = {}
    for device in devices:
        here = [name for name, indices in placement.devices.items() if device.index in indices]
        if len(here) > 1:
            shares = {name: int(placement.shares.get(name, 0) * device.memory_bytes) for name in here}
            known = {name: demands[name] for name in here if name in demands}
            taken = {name: known[name].occupied(shares[name]) if name in known else shares[name] for name in here}
            starts = {n: known[n].free_to_start(shares[n]) if n in known else shares[n] for n in here}
            most = sum(taken.values()) + max(starts[name] - taken[name] for name in here)
            over[device.index] = (most + device.held_bytes) / device.memory_bytes - 1
    return over


def _too_full(device: Device, part: float) -> Problem:
    message = (
        f"the shares declared for it leave {gib(int(part * device.memory_bytes))} too little of {device.name} for "
        "what lies outside of them (CUDA's contexts, and what a server takes under load). Declare smaller ones, or "
        "other gpus"
    )
    return Problem(f"GPU {device.index}", message, "plan-memory")


def _request(case: Case, demand: Demand | None, host: Host, settings: Settings, pessimistic: bool) -> Request:
    server, now = case.server, {} if settings.replan else case.now
    indices = {device.visible_as: device.index for device in host.gpus or ()}
    current = tuple(indices[name] for name in now.get("visible") or () if name in indices)
    stays = len(current) == server.tensor_parallel_size
    return Request(
        name=server.name,
        kind=server.kind,
        ranks=server.tensor_parallel_size,
        least=None if demand is None else least_bytes(demand, pessimistic),
        elastic=server.kind == "llm" if demand is None else bool(demand.kv_least and not demand.kv_declared),
        devices=server.gpus,
        share=server.gpu_memory_utilization,
        current_devices=current if stays else None,
        current_share=now.get("share") if stays else None,
    )


def _device(case: Case, devices: Sequence[Device]) -> Device:
    """Return the device whose kind the estimate is for: the first declared one, otherwise the smallest."""
    declared = [device for device in devices if device.index in (case.server.gpus or ())]
    return declared[0] if declared else min(devices, key=lambda device: device.memory_bytes)


def _as_declared(cases: Sequence[Case]) -> Placement:
    """Return a placement on a host of whose GPUs nothing is known."""
    servers = [case.server for case in cases]
    return Placement(
        {server.name: server.gpus or tuple(range(server.tensor_parallel_size)) for server in servers},
        {s.name: s.gpu_memory_utilization for s in servers if s.gpu_memory_utilization is not None},
    )
