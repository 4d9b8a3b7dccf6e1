"""The memory a server will take: estimated from its model, or as vLLM reported it of a former start."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vllm_fleet.plan.declaration import ModelServer
from vllm_fleet.plan.host import Device
from vllm_fleet.plan.memory.activations import rank_activations, rank_excess
from vllm_fleet.plan.memory.demand import Demand
from vllm_fleet.plan.memory.kv_cache import declared_bytes, kv_cache
from vllm_fleet.plan.memory.limits import Limits
from vllm_fleet.plan.memory.overhead import rank_context, rank_graphs
from vllm_fleet.plan.memory.processors import rank_processes
from vllm_fleet.plan.memory.recorded import with_record
from vllm_fleet.plan.memory.weights import rank_weights
from vllm_fleet.plan.models.facts import ModelFacts
from vllm_fleet.plan.settings import Settings


def estimate(
    server: ModelServer,
    facts: ModelFacts,
    device: Device,
    settings: Settings,
    record: Mapping[str, Any] | None = None,
) -> Demand:
    """Return what one rank of a server takes on a device.

    Args:
        server: what is declared.
        facts: of its model.
        device: the device a rank runs on; its size and kind decide vLLM's defaults.
        settings: of the host.
        record: what the module model_server_facts read of a former start; used only where that start was of the same
            model with the same settings on the same kind of device.
    """
    backend = settings.backend
    limits = Limits.of(server, facts, device, settings)
    cache = kv_cache(server, facts, limits, backend)
    demand = Demand(
        weights=rank_weights(server, facts, limits),
        activations=rank_activations(server, facts, limits, device, backend),
        graphs=rank_graphs(facts, limits),
        context=(
            rank_processes(limits) if backend == "cpu" else rank_context(limits) + rank_excess(server, facts, limits)
        ),
        kv_bytes_per_token=cache.token_bytes,
        kv_least=cache.least,
        max_model_len=limits.max_model_len,
        kv_block_bytes=cache.block_bytes,
        kv_declared=declared_bytes(server) if cache.block_bytes and backend == "cuda" else 0,
    )
    return with_record(demand, server, device, record) if record else demand
