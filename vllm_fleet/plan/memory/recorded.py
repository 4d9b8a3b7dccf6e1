"""Numbers that vLLM reported of a former start, in place of an estimate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import PurePosixPath
from typing import Any

from vllm_fleet.plan.declaration import ModelServer
from vllm_fleet.plan.extra_args import flag_name
from vllm_fleet.plan.flags import FlagCatalogue
from vllm_fleet.plan.host import Device
from vllm_fleet.plan.memory.demand import Amount, Demand

MIB = 1 << 20
# vLLM prints GiB with two decimals; two starts differ by as much again.
ROUNDING = 10 * MIB
# Flags on which the memory of a server does not depend; the share is accounted for.
INDIFFERENT = {
    "host",
    "port",
    "served-model-name",
    "shutdown-timeout",
    "enable-auto-tool-choice",
    "tool-call-parser",
    "reasoning-parser",
    "chat-template",
    "trust-remote-code",
    "gpu-memory-utilization",
    "kv-cache-memory-bytes",
}


def with_record(demand: Demand, server: ModelServer, device: Device, record: Mapping[str, Any]) -> Demand:
    """Return the demand with the numbers of a record, or as it was where the record is of another start.

    Args:
        demand: the estimate.
        server: what is declared now.
        device: on which it is to run.
        record: what the module model_server_record noted; unknown is null.
    """
    if not same_start(server, device, record):
        return demand
    if record.get("backend") == "cpu":
        return _of_processes(demand, server, record)
    weights = _measured(record.get("weights_bytes"), demand.weights)
    graphs = _measured(record.get("graphs_reserved_bytes") or record.get("graphs_bytes"), demand.graphs)
    activations, context = demand.activations, demand.context
    blocks, share = record.get("num_gpu_blocks"), record.get("share_bytes")
    if blocks and share and demand.kv_block_bytes and not demand.kv_declared:
        # What the share paid for is exact but for the last block, whatever its parts are called.
        rest = share - blocks * demand.kv_block_bytes - weights.bytes - graphs.bytes
        activations = Amount(max(rest, 0), demand.kv_block_bytes + ROUNDING)
    used, consumed = max(record.get("device_bytes") or [0]), record.get("consumed_bytes")
    captured = record.get("graphs_bytes")
    if blocks and demand.kv_block_bytes and consumed and captured is not None:
        outside = used - consumed - captured - blocks * demand.kv_block_bytes
        # It was read before any load, so it can only be more than was thought.
        context = replace(context, bytes=max(outside, context.bytes))
    elif not demand.kv_block_bytes and used > weights.bytes + graphs.bytes + context.bytes + activations.bytes:
        # Nothing but the size of a batch limits an encoder; what it was seen to take it may take again.
        activations = Amount(used - weights.bytes - graphs.bytes - context.bytes, activations.error)
    return replace(demand, weights=weights, graphs=graphs, activations=activations, context=context, source="measured")


def same_start(server: ModelServer, device: Device, record: Mapping[str, Any]) -> bool:
    """Whether a record is of the declared server, by the pinned vLLM, on such a device."""
    argv = record.get("argv") or []
    release = str(record.get("release") or "")
    names = record.get("device_names") or []
    return (
        len(argv) > 1
        and release.split("-")[0] == _pinned()
        and PurePosixPath(argv[1]).name == _directory(server)
        and _flags(argv[2:]) == _declared(server)
        and (record.get("backend") == "cpu" or set(names) == {device.name})
    )


def _of_processes(demand: Demand, server: ModelServer, record: Mapping[str, Any]) -> Demand:
    """Return the demand of a rank on processors, of which only the size of all processes is known."""
    ranks = max(server.tensor_parallel_size, 1)
    total, cached = record.get("host_bytes"), record.get("kv_cache_bytes") or 0
    if not total:
        return demand
    if not demand.kv_block_bytes:
        cached = 0
    rest = total // ranks - cached - demand.weights.bytes
    if rest <= 0:
        return demand
    return replace(demand, context=Amount(rest, rest // 10), source="measured")


def _measured(bytes_: int | None, estimated: Amount) -> Amount:
    return estimated if bytes_ is None else Amount(bytes_, ROUNDING)


@cache
def _pinned() -> str:
    return FlagCatalogue.load().version


def _directory(server: ModelServer) -> str:
    """Return the name of the directory the model lies in on the host."""
    if server.local:
        return PurePosixPath(server.model).name
    return "--".join(part.replace("/", "--") for part in (server.model.strip("/"), server.revision) if part)


def _flags(words: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Read a command line into flags and their values, without those that memory does not depend on."""
    flags: dict[str, tuple[str, ...]] = {}
    name = ""
    for word in words:
        if word.startswith("--"):
            name = word[2:]
            flags[name] = ()
        else:
            flags[name] = (*flags.get(name, ()), word)
    return {name: values for name, values in flags.items() if name not in INDIFFERENT}


def _declared(server: ModelServer) -> dict[str, tuple[str, ...]]:
    """Return the flags a server is started with, likewise."""
    wanted: dict[str, Any] = {
        "dtype": server.dtype,
        "tensor-parallel-size": server.tensor_parallel_size,
        "runner": None if server.kind == "llm" else "pooling",
        "max-model-len": server.max_model_len,
        "quantization": server.quantization,
        **{flag_name(key): value for key, value in server.extra_args.items()},
    }
    render = FlagCatalogue("", {}).render
    return _flags([word for key, value in wanted.items() if value is not None for word in render(key, value)])
