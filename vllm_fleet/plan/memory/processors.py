"""What a rank takes on a host without GPUs beside weights and KV cache.

The constants are measured with vLLM 0.32.0's build for processors, as proportional set sizes
(docs/measurements/plan.md).
"""

from __future__ import annotations

from vllm_fleet.plan.declaration import ModelServer
from vllm_fleet.plan.memory.demand import Amount
from vllm_fleet.plan.memory.limits import Limits
from vllm_fleet.plan.memory.weights import item_bytes
from vllm_fleet.plan.models.facts import ModelFacts

MIB = 1 << 20
# The API server and the engine's core, once for each server; a worker for each rank.
SERVER = Amount(830 * MIB, 60 * MIB)
WORKER = Amount(500 * MIB, 60 * MIB)
# What the allocator keeps of the first steps, in float32 logits of all sequences.
LOGITS_KEPT = 6
FLOAT = 4


def rank_processes(limits: Limits) -> Amount:
    """Return the memory of the processes themselves; each rank bears its part of those that a server has once."""
    ranks = limits.tensor_parallel * limits.pipeline_parallel
    return WORKER + Amount(-(-SERVER.bytes // ranks), -(-SERVER.error // ranks))


def rank_buffers(server: ModelServer, facts: ModelFacts, limits: Limits) -> Amount:
    """Return what a rank keeps after its first steps.

    A server that generates keeps a packed copy of the output embedding beside the embedding itself
    (``UnquantizedEmbeddingMethod`` in vllm/model_executor/layers/vocab_parallel_embedding.py), and what sampling took.
    """
    if server.kind != "llm":
        return Amount(0, 64 * MIB)
    packed = facts.vocabulary * facts.hidden_size * item_bytes(server, facts) // limits.tensor_parallel
    sampling = LOGITS_KEPT * limits.sequences * facts.vocabulary * FLOAT // limits.tensor_parallel
    return Amount(packed + sampling, sampling // 2 + 64 * MIB)
