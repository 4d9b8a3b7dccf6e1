"""What one rank of a model server takes on its device."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Amount:
    """Bytes, and how far the truth may be from them either way; an ``error`` of 0 says that they are exact."""

    bytes: int
    error: int = 0

    @property
    def most(self) -> int:
        """The largest it may be, in bytes."""
        return self.bytes + self.error

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.bytes + other.bytes, self.error + other.error)


@dataclass(frozen=True)
class Demand:
    """Memory of one rank, the same on each of a server's devices.

    ``context`` is what CUDA, NCCL and Python keep, ``kv_bytes_per_token`` the KV cache of one more token of a long
    request, ``kv_least`` the KV cache for one request of ``max_model_len`` tokens (0 where nothing is cached), all in
    bytes. ``source`` is ``estimate``, or ``measured`` where vLLM's own numbers of a former start replace it.
    """

    weights: Amount
    activations: Amount
    graphs: Amount
    context: Amount
    kv_bytes_per_token: int
    kv_least: int
    max_model_len: int | None
    source: str = "estimate"

    @property
    def fixed(self) -> Amount:
        """Everything but the KV cache."""
        return self.weights + self.activations + self.graphs + self.context

    @property
    def least(self) -> int:
        """Bytes below which it may not start, or not serve a request of full length."""
        return self.fixed.most + self.kv_least
