"""The serving plan of one host: what roles, templates, the verification and people are given."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Model:
    """A model directory on the host and where its files come from; ``id`` is None for a directory that is there."""

    id: str | None
    revision: str | None
    copy_from: str | None
    path: str


@dataclass(frozen=True)
class Memory:
    """What one rank takes on its device, in bytes; pairs are an amount and how far the truth may be from it either way.

    ``kv_tokens`` are the tokens of all requests that the KV cache holds at a time, ``requests_at_full_length`` how
    many requests of the greatest length those make. Both are 0 where nothing is cached. ``source`` is ``estimate``,
    or ``measured`` where vLLM's own numbers of a former start are known.
    """

    weights: tuple[int, int]
    activations: tuple[int, int]
    graphs: tuple[int, int]
    context: tuple[int, int]
    kv_cache_bytes: int
    kv_tokens: int
    requests_at_full_length: float
    source: str


@dataclass(frozen=True)
class Server:
    """One model server as it will run: everything the unit template and the verification need.

    ``context_length`` is the greatest length of a request in tokens, declared or the model's own; None where neither is
    known. ``gpus`` are indices of devices, empty where servers compute on the processors. ``share`` is the fraction of
    each GPU's memory it may take, None likewise. ``memory`` is None where nothing is known of the model or the devices.
    """

    name: str
    unit: str
    kind: str
    model: str
    served_model_name: str
    model_path: str
    host: str
    port: int
    base_url: str
    probe_address: str
    dtype: str
    tensor_parallel_size: int
    max_model_len: int | None
    context_length: int | None
    tool_calls: bool
    trust_remote_code: bool
    argv: tuple[str, ...]
    env: dict[str, str]
    device_locks: tuple[str, ...]
    gpus: tuple[int, ...]
    share: float | None
    memory: Memory | None


@dataclass(frozen=True)
class PlannedDevice:
    """A device as the plan shows it; ``limit_bytes`` is what servers together may take of it."""

    index: int
    name: str
    memory_bytes: int
    limit_bytes: int
    held_bytes: int


@dataclass(frozen=True)
class ServingPlan:
    """What runs on one host, in start order.

    ``assumed`` says that no driver has told yet which GPUs the host has.
    """

    backend: str
    host: str
    assumed: bool
    devices: tuple[PlannedDevice, ...]
    models: tuple[Model, ...]
    servers: tuple[Server, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the plan as plain lists and mappings, as Ansible and JSON want it."""
        result: dict[str, Any] = plain(asdict(self))
        return result


def plain(value: Any) -> Any:
    """Return a value with lists in place of tuples, at any depth."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value
