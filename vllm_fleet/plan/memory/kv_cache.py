"""The KV cache: bytes of a block, blocks of a request, tokens of a budget.

Follows vllm/v1/kv_cache_interface.py (bytes of a page), vllm/v1/core/kv_cache_utils.py (groups of layers, the check at
start, the capacity that vLLM logs) and ``get_kv_cache_spec`` of the attention layers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from vllm_fleet.plan.declaration import ModelServer
from vllm_fleet.plan.extra_args import flag
from vllm_fleet.plan.memory.demand import Demand
from vllm_fleet.plan.memory.limits import Limits
from vllm_fleet.plan.memory.weights import item_bytes
from vllm_fleet.plan.models.facts import CacheLayers, ModelFacts

BLOCK_TOKENS = 16
BLOCK_TOKENS_CPU = 128
# Kernels of MLA read the latent of 64 tokens at a time; the one for processors, of 16.
BLOCK_TOKENS_MLA = 64
BLOCK_TOKENS_MLA_CPU = 16
ONE_BYTE = ("fp8", "fp8_e4m3", "fp8_e5m2", "fp8_inc", "int8")
FOUR_BYTE_SCALE = ("int8_per_token_head", "fp8_per_token_head")


@dataclass(frozen=True)
class KvCache:
    """The KV cache of one rank.

    ``block_bytes`` is what one block takes in all layers that share it, ``request_blocks`` how many blocks a request of
    full length holds, ``token_bytes`` what one more token of a long request takes, in bytes.
    """

    block_bytes: int
    request_blocks: int
    token_bytes: int

    @property
    def least(self) -> int:
        """Bytes below which vLLM does not start: one request of full length, and the block it never gives away.

        ``get_kv_cache_configs`` in vllm/v1/core/kv_cache_utils.py takes that null block off before it checks.
        """
        return (self.request_blocks + 1) * self.block_bytes if self.request_blocks else 0


def kv_cache(server: ModelServer, facts: ModelFacts, limits: Limits, backend: str) -> KvCache:
    """Return the KV cache of a server; all zero where nothing is cached."""
    layers = [_Layers.of(entry, server, facts, limits, backend) for entry in facts.cache_layers if entry.count]
    if not layers:
        return KvCache(0, 0, 0)
    if len({one.window for one in layers}) == 1:
        # One group of all layers: a block holds the same tokens for each of them.
        block_bytes = sum(one.count * one.page_bytes for one in layers)
        growing = 0 if layers[0].window else block_bytes // layers[0].block_tokens
        return KvCache(block_bytes, layers[0].request_blocks(limits), growing)
    # Layers that look back differently far are put into groups of equal size that draw from one pool of blocks.
    fewest, most = min(one.count for one in layers), max(one.count for one in layers)
    group_size = most if most < 1.5 * fewest else fewest
    page_bytes = max(one.page_bytes for one in layers)
    groups = [(-(-one.count // group_size), one.with_pages_of(page_bytes)) for one in layers]
    blocks = sum(number * one.request_blocks(limits) for number, one in groups)
    growing = sum(
        number * group_size * one.page_bytes // one.block_tokens for number, one in groups if one.window is None
    )
    return KvCache(group_size * page_bytes, blocks, growing)


def declared_bytes(server: ModelServer) -> int:
    """Return the KV cache that ``kv-cache-memory-bytes`` in ``extra_args`` fixes on each rank, in bytes; 0 without."""
    value = str(flag(server, "kv-cache-memory-bytes", 0))
    return int(value) if value.isdecimal() else 0


def kv_tokens(demand: Demand, kv_bytes: int) -> int:
    """Return how many tokens of requests of full length fit into that many bytes.

    It is the number vLLM logs as "GPU KV cache size" and reports as ``kv_cache_size_tokens``
    (``get_kv_cache_capacity`` in vllm/v1/core/kv_cache_utils.py).
    """
    return int(requests_at_full_length(demand, kv_bytes) * (demand.max_model_len or 0))


def requests_at_full_length(demand: Demand, kv_bytes: int) -> float:
    """Return how many requests of ``max_model_len`` tokens fit into that many bytes; vLLM's "Maximum concurrency"."""
    if not demand.kv_block_bytes:
        return 0.0
    return (kv_bytes // demand.kv_block_bytes) / (demand.kv_least // demand.kv_block_bytes - 1)


@dataclass(frozen=True)
class _Layers:
    """Layers of one kind as a rank holds them: ``page_bytes`` are those of one block in one layer."""

    count: int
    window: int | None
    block_tokens: int
    page_bytes: int

    @classmethod
    def of(cls, entry: CacheLayers, server: ModelServer, facts: ModelFacts, limits: Limits, backend: str) -> _Layers:
        latent = entry.kv_heads == 0
        # With more ranks than KV heads each rank keeps one head, and several keep the same.
        heads = 1 if latent else max(1, entry.kv_heads // limits.tensor_parallel)
        tokens = _block_tokens(server, latent, backend)
        element, scales = _element_bytes(server, facts)
        return cls(
            count=-(-entry.count // limits.pipeline_parallel),
            window=entry.window,
            block_tokens=tokens,
            page_bytes=tokens * heads * (int(entry.size * element) + (0 if latent else scales)),
        )

    def with_pages_of(self, page_bytes: int) -> _Layers:
        """Return the layers with pages of another size: more tokens to a page where that divides it, else padding."""
        fold = page_bytes // self.page_bytes if page_bytes % self.page_bytes == 0 else 1
        return replace(self, block_tokens=fold * self.block_tokens, page_bytes=page_bytes)

    def request_blocks(self, limits: Limits) -> int:
        """Return the blocks of one layer that a request of full length holds at most."""
        if self.window is None:
            return -(-limits.max_model_len // self.block_tokens)
        # What is behind the window is freed only once a step is settled; the window may begin inside a block.
        held = min(self.window - 1 + limits.in_flight_tokens, limits.max_model_len)
        return -(-held // self.block_tokens) + 1


def _block_tokens(server: ModelServer, latent: bool, backend: str) -> int:
    if latent and backend == "cpu":
        return BLOCK_TOKENS_MLA_CPU
    if latent:
        return BLOCK_TOKENS_MLA
    declared = flag(server, "block-size", None)
    return int(declared or (BLOCK_TOKENS_CPU if backend == "cpu" else BLOCK_TOKENS))


def _element_bytes(server: ModelServer, facts: ModelFacts) -> tuple[float, int]:
    """Return the bytes of one element, and of the scales per token and KV head."""
    dtype = str(flag(server, "kv-cache-dtype", "auto"))
    if dtype in ONE_BYTE:
        return 1, 0
    if dtype in FOUR_BYTE_SCALE:
        return 1, 8
    if dtype.startswith(("nvfp4", "int4")):
        return 0.5625, 0
    return (2 if dtype in ("float16", "bfloat16", "half") else item_bytes(server, facts)), 0
