"""What a server takes that is neither weights, activations nor KV cache: CUDA graphs, and the context around it.

The constants are measured on an H100 (docs/measurements/plan.md), those of groups of GPUs are not measured.
"""

from __future__ import annotations

from vllm_fleet.plan.memory.demand import Amount
from vllm_fleet.plan.memory.limits import Limits
from vllm_fleet.plan.models.facts import ModelFacts

KIB, MIB = 1 << 10, 1 << 20
# The context of CUDA with the code of torch's and vLLM's kernels.
CUDA_CONTEXT = Amount(520 * MIB, 100 * MIB)
# Buffers of NCCL and of vLLM's own all-reduce for each rank of a group.
COMMUNICATION = Amount(420 * MIB, 240 * MIB)
# A graph of one piece of a layer, and what it keeps for each token of its batch.
PIECE = 80 * KIB
PIECE_TOKEN = 440
# What is put aside for one layer in a graph of the whole model.
FULL_LAYER = 270 * KIB


def rank_graphs(facts: ModelFacts, limits: Limits) -> Amount:
    """Return what is put aside for the CUDA graphs of a rank; known to a third.

    vLLM captures a graph for each piece between two attentions at each size, and a graph of the whole model at each
    size that only decodes. Of the latter it captures two and extrapolates (``profile_cudagraph_memory`` in
    vllm/v1/worker/gpu/cudagraph_utils.py), which is more than they will take.
    """
    layers = -(-facts.layers // limits.pipeline_parallel)
    pieces = (layers + 1) * (len(limits.captures) * PIECE + sum(limits.captures) * PIECE_TOKEN)
    bytes_ = pieces + limits.decode_sizes * layers * FULL_LAYER
    return Amount(bytes_, bytes_ // 3)


def rank_context(limits: Limits) -> Amount:
    """Return what lies outside of ``gpu_memory_utilization``, since it is there before vLLM first measures."""
    return CUDA_CONTEXT if limits.tensor_parallel == 1 else CUDA_CONTEXT + COMMUNICATION
