"""Weights as a rank holds them on its device."""

from __future__ import annotations

from vllm_fleet.plan.declaration import ModelServer
from vllm_fleet.plan.memory.demand import Amount
from vllm_fleet.plan.memory.limits import Limits, caches
from vllm_fleet.plan.models.facts import ModelFacts

ITEM_BYTES = {"float32": 4, "float": 4}
# Bytes per weight of linear layers where vLLM quantizes a model while it loads it, scales included.
ONLINE_QUANTIZATION = {"fp8": 1.0, "bitsandbytes": 0.53, "experts_int8": 1.0}
# Embeddings are padded to a multiple of this many rows (DEFAULT_VOCAB_PADDING_SIZE in
# vllm/model_executor/layers/vocab_parallel_embedding.py).
VOCABULARY_PADDING = 64
MIB = 1 << 20
# What loading keeps beside the weights: buffers of layers, rounding of the allocator; of decoders, rotary tables.
BUFFERS = Amount(16 * MIB, 16 * MIB)
BUFFERS_DECODER = Amount(32 * MIB, 32 * MIB)


def item_bytes(server: ModelServer, facts: ModelFacts) -> int:
    """Return the bytes of one element in the server's dtype.

    With ``auto`` vLLM turns float32 into a 16-bit type (``_resolve_auto_dtype`` in vllm/config/model.py).
    """
    return 2 if server.dtype == "auto" else ITEM_BYTES.get(server.dtype, 2)


def rank_weights(server: ModelServer, facts: ModelFacts, limits: Limits) -> Amount:
    """Return the weights of the rank that holds most.

    Column- and row-parallel layers and embeddings are divided by the tensor parallel size; projections of keys and
    values only as far as there are KV heads (``QKVParallelLinear`` in vllm/model_executor/layers/linear.py); norms and
    the like lie on every rank. Pipeline stages share the layers, and the largest stage is the last of unequal ones.
    """
    stored, ranks = facts.weights, limits.tensor_parallel
    per_rank = stored.sharded / ranks + stored.kv_projections / min(ranks, max(facts.kv_heads, 1)) + stored.replicated
    kept = stored.other_dtype / stored.total if stored.total else 0.0
    converted = item_bytes(server, facts) / stored.stored_item_bytes
    bytes_ = per_rank * (kept + (1 - kept) * converted)
    embedding = _embedding_bytes(server, facts) / ranks
    error = 0.002 if facts.counted else 0.03
    if server.quantization in ONLINE_QUANTIZATION and facts.quantization is None:
        factor = ONLINE_QUANTIZATION[server.quantization] / item_bytes(server, facts)
        bytes_ = embedding + (bytes_ - embedding) * factor
        error += 0.05
    elif facts.quantization is not None:
        # Kernels such as Marlin lay quantized weights out anew, padded to their tiles.
        error += 0.05 * kept
    if limits.pipeline_parallel > 1:
        stage = -(-facts.layers // limits.pipeline_parallel) / facts.layers
        bytes_ = (bytes_ - embedding) * stage + embedding
        error += 0.02
    padding = -facts.vocabulary % VOCABULARY_PADDING * facts.hidden_size * item_bytes(server, facts) / ranks
    rotary = (facts.max_model_len or 0) * facts.head_size * item_bytes(server, facts) if caches(facts) else 0
    buffers = BUFFERS_DECODER if caches(facts) else BUFFERS
    return Amount(int(bytes_ + padding) + rotary, int(bytes_ * error)) + buffers


def _embedding_bytes(server: ModelServer, facts: ModelFacts) -> int:
    tables = 1 if facts.tied_embeddings or not caches(facts) else 2
    return tables * facts.vocabulary * facts.hidden_size * item_bytes(server, facts)
