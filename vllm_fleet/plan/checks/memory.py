"""Servers that were placed, and whose share of a device does not hold what they need."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vllm_fleet.plan.host import Host
from vllm_fleet.plan.memory.demand import Demand
from vllm_fleet.plan.problems import Problem
from vllm_fleet.plan.sentences import GIB, gib
from vllm_fleet.plan.settings import Settings
from vllm_fleet.plan.solve import Case, Solution, least_bytes


def budget(name: str, solution: Solution, host: Host, settings: Settings) -> int | None:
    """Return the bytes one rank of a server may take on its devices, None where no share is known."""
    share = solution.placement.shares.get(name)
    memory = {device.index: device.memory_bytes for device in host.devices(settings.backend)}
    sizes = [memory[index] for index in solution.placement.devices[name] if index in memory]
    return int(min(sizes) * share) if sizes and share is not None else None


def check_memory(cases: Sequence[Case], solution: Solution, host: Host, settings: Settings) -> Iterator[Problem]:
    """Yield a problem for each server whose share is too small: an error where it cannot do, else a warning."""
    if settings.backend == "cpu":
        yield from _main_memory(cases, solution, host, settings)
        return
    for case in cases:
        name = case.server.name
        demand, bytes_ = solution.demands.get(name), budget(name, solution, host, settings)
        if demand is not None and 0 < demand.kv_declared < demand.kv_least:
            found = f"kv-cache-memory-bytes is {gib(demand.kv_declared)}, and one request of {demand.max_model_len:,}"
            yield Problem(f"server {name}", f"{found} tokens needs {gib(demand.kv_least)} of KV cache", "plan-memory")
        if demand is None or bytes_ is None or least_bytes(demand, pessimistic=True) <= bytes_:
            continue
        fits = least_bytes(demand, pessimistic=False) <= bytes_
        share = solution.placement.shares[name]
        found = f"gpu_memory_utilization {share:g} is {gib(bytes_)} of {_devices(name, solution, host, settings)}"
        needs = _needs(demand)
        yield Problem(
            f"server {name}",
            f"{found}; {needs}, and may need up to {gib(demand.least)}" if fits else f"{found}; {needs}",
            "plan-memory",
            "warning" if fits else "error",
        )


def _main_memory(cases: Sequence[Case], solution: Solution, host: Host, settings: Settings) -> Iterator[Problem]:
    cache = settings.cpu_kvcache_gib * GIB
    total = 0
    for case in cases:
        demand = solution.demands.get(case.server.name)
        if demand is None:
            continue
        ranks = case.server.tensor_parallel_size
        total += ranks * demand.fixed.bytes + (ranks * cache if demand.kv_least else 0)
        if demand.kv_least > cache:
            yield Problem(
                f"server {case.server.name}",
                f"{demand.max_model_len:,} tokens need {gib(demand.kv_least)} of KV cache on each rank, "
                f"model_server_cpu_kvcache_gib gives {settings.cpu_kvcache_gib} GiB",
                "plan-memory",
            )
    if total > host.memory_bytes:
        yield Problem(
            "host",
            f"the servers take about {gib(total)} of main memory, {host.name} has {gib(host.memory_bytes)}; "
            "declare fewer, or lower model_server_cpu_kvcache_gib",
            "plan-memory",
            "warning",
        )


def _needs(demand: Demand) -> str:
    paid = demand.counted if demand.kv_least else demand.fixed
    text = f"it needs {gib(paid.bytes)} ± {gib(paid.error)}"
    if not demand.kv_least:
        return text
    return f"{text} and {gib(demand.kv_least)} of KV cache for one request of {demand.max_model_len:,} tokens"


def _devices(name: str, solution: Solution, host: Host, settings: Settings) -> str:
    chosen = [d for d in host.devices(settings.backend) if d.index in solution.placement.devices[name]]
    smallest = min(chosen, key=lambda device: device.memory_bytes)
    return f"GPU {smallest.index} ({smallest.name}, {gib(smallest.memory_bytes)})"
