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

    On GPUs vLLM pays for ``weights``, ``activations``, ``graphs`` and the KV cache out of ``gpu_memory_utilization``.
    ``context`` lies outside: CUDA's context and NCCL's buffers are there before vLLM takes its first measure
    (``Worker.init_device`` in vllm/v1/worker/gpu_worker.py), and what the allocator takes more under load comes after
    its last; no share includes them. On processors there is no share, and ``context`` is the memory of the processes.

    ``kv_block_bytes`` is one block of the KV cache in all layers, ``kv_least`` the KV cache below which no request of
    ``max_model_len`` tokens is let in, ``kv_bytes_per_token`` what one more token of a long request takes; all in
    bytes, and 0 where nothing is cached. ``kv_declared`` is the KV cache in bytes where the declaration fixes it
    (``kv-cache-memory-bytes``), 0 where it is what the share leaves. ``source`` is ``estimate``, or ``measured`` where
    vLLM's own numbers of a former start replace it.
    """

    weights: Amount
    activations: Amount
    graphs: Amount
    context: Amount
    kv_bytes_per_token: int
    kv_least: int
    max_model_len: int | None
    source: str = "estimate"
    kv_block_bytes: int = 0
    kv_declared: int = 0

    @property
    def counted(self) -> Amount:
        """What the share pays for beside the KV cache."""
        return self.weights + self.activations + self.graphs

    @property
    def fixed(self) -> Amount:
        """Everything but the KV cache."""
        return self.counted + self.context

    @property
    def least(self) -> int:
        """The smallest share, in bytes, with which it starts and serves a request of full length.

        A KV cache fills its share to the last block, and the context comes on top. Where nothing is cached the share
        is never filled, so it is made to pay for the context as well.
        """
        return self.counted.most + max(self.kv_least, self.kv_declared) if self.kv_least else self.fixed.most

    def cache_bytes(self, share_bytes: int) -> int:
        """Return the KV cache: what is declared, or what is left of a share."""
        if self.kv_declared:
            return self.kv_declared
        return max(share_bytes - self.counted.bytes, 0) if self.kv_least else 0

    def occupied(self, share_bytes: int) -> int:
        """Return what a rank really takes of its device, given its share in bytes."""
        if self.kv_declared:
            return self.fixed.bytes + self.kv_declared
        return max(share_bytes, self.counted.bytes) + self.context.bytes if self.kv_least else self.fixed.bytes

    def free_to_start(self, share_bytes: int) -> int:
        """Return what must be free on its device for a start: vLLM wants the whole share free beside its context.

        It refuses to start otherwise, an encoder that will never fill its share as well (``request_memory`` in
        vllm/v1/worker/utils.py).
        """
        return max(share_bytes, self.counted.bytes) + self.context.bytes
