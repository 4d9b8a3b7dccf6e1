"""What computing needs beside weights and KV cache: tensors of one step, buffers that are kept, workspaces of kernels.

vLLM measures it by a step with as many tokens as it will ever batch (``GPUModelRunner.profile_run`` in
vllm/v1/worker/gpu/model_runner.py) and takes the peak, and all that stays allocated, from the share. An encoder is not
measured at all (``EngineCore._initialize_kv_caches`` in vllm/v1/engine/core.py): it takes what it takes. The constants
are measured on an H100 (docs/measurements/plan.md).
"""

from __future__ import annotations

from vllm_fleet.plan.declaration import ModelServer
from vllm_fleet.plan.host import Device
from vllm_fleet.plan.memory.demand import Amount
from vllm_fleet.plan.memory.limits import Limits, blackwell, caches
from vllm_fleet.plan.memory.processors import rank_buffers
from vllm_fleet.plan.memory.weights import item_bytes
from vllm_fleet.plan.models.facts import ModelFacts

MIB = 1 << 20
INT = 4
# What a compiled layer takes more than one run as it is written.
COMPILED = 1.05
# Where the model's description does not say how many experts a token goes to.
EXPERTS_PER_TOKEN = 8
# Workspaces of cuBLAS and attention, the code of kernels, which CUDA loads with their first use, and rounding.
WORKSPACES = Amount(360 * MIB, 90 * MIB)
# FlashInfer's workspace (VLLM_FLASHINFER_WORKSPACE_BUFFER_SIZE in vllm/envs.py), where its attention is the default.
FLASHINFER = Amount(394 * MIB, 394 * MIB)
# Encoding images and audio is not calculated; room is left for it. Such models end in this word.
MULTIMODAL = "ForConditionalGeneration"
MEDIA = Amount(1024 * MIB, 1024 * MIB)
# Under load PyTorch's allocator keeps more than the largest step needs: of layers a third, of logits, which come in all
# sizes, as much again; so does an encoder, whose memory nobody tidies after its first steps.
KEPT_OF_LAYERS = 1.35
KEPT_OF_LOGITS = 2.0
KEPT_BY_ENCODER = 2.0
# Logits in 16 bits, and in float32 once a request is sampled with a temperature.
LOGIT_BYTES = 6
# The tokens of a block table's column; the smallest there are.
TABLE_TOKENS = 16


def rank_activations(server: ModelServer, facts: ModelFacts, limits: Limits, device: Device, backend: str) -> Amount:
    """Return the activation peak and the kept buffers of a rank.

    The peak of a dense model is known to a tenth, of experts to a third.
    """
    peak = _layer_peak(server, facts, limits)
    doubt = peak // (3 if facts.experts else 10)
    media = MEDIA if facts.architecture.endswith(MULTIMODAL) else Amount(0)
    if backend == "cpu":
        return Amount(peak, doubt) + rank_buffers(server, facts, limits) + media
    fixed = WORKSPACES + media + (FLASHINFER if blackwell(device) else Amount(0))
    if not caches(facts):
        return Amount(int(KEPT_BY_ENCODER * peak), 2 * doubt) + fixed
    kept = 0
    if server.kind == "llm":
        peak = max(peak, _sampling_peak(server, facts, limits))
        kept = _sampler_buffers(facts, limits)
    return Amount(peak + kept, doubt + kept // 50) + fixed


def rank_excess(server: ModelServer, facts: ModelFacts, limits: Limits) -> Amount:
    """Return what a rank takes under load beyond its share.

    vLLM's own measurement samples greedily and empties the allocator's cache; requests with a temperature make a
    float32 copy of the logits (``Sampler.apply_sampling_params`` in vllm/v1/worker/gpu/sample/sampler.py).
    """
    if not caches(facts):
        return Amount(0)
    peak = _layer_peak(server, facts, limits)
    logits = limits.sequences * facts.vocabulary * LOGIT_BYTES if server.kind == "llm" else 0
    most = int(max(KEPT_OF_LAYERS * peak, KEPT_OF_LOGITS * logits))
    return Amount(most - peak, (most - peak) // 4)


def _layer_peak(server: ModelServer, facts: ModelFacts, limits: Limits) -> int:
    """Return the bytes alive at once in the widest part of a layer, its feed-forward network.

    Dense: both projections, their product, and four times the hidden state. Experts: the two workspaces for each expert
    of a token that ``workspace_shapes`` in vllm/model_executor/layers/fused_moe/experts/triton_moe.py gives.
    """
    wide = (facts.expert_size or facts.intermediate_size) if facts.experts else facts.intermediate_size
    width = -(-wide // limits.tensor_parallel)
    hidden = facts.hidden_size
    if facts.experts:
        chosen = min(facts.experts_per_token or EXPERTS_PER_TOKEN, facts.experts)
        elements = 4 * hidden + chosen * (max(width, hidden) + max(2 * width, hidden))
    else:
        elements = 4 * hidden + (3 if caches(facts) else 2) * width
    return int(limits.batched_tokens * elements * item_bytes(server, facts) * COMPILED)


def _sampling_peak(server: ModelServer, facts: ModelFacts, limits: Limits) -> int:
    """Return the bytes alive while a token is sampled for each sequence, greedily: hidden states and logits.

    With tensor parallelism each rank has its part of the logits beside the whole.
    """
    parts = 1 if limits.tensor_parallel == 1 else 2
    logits = limits.sequences * facts.vocabulary * parts
    return (limits.batched_tokens * facts.hidden_size + logits) * item_bytes(server, facts)


def _sampler_buffers(facts: ModelFacts, limits: Limits) -> int:
    """Return the bytes of tables that are kept for every sequence there may be.

    Penalties count every token of the vocabulary (``PenaltiesState`` in vllm/v1/worker/gpu/sample/penalties.py), biases
    and stop words take 3,200 numbers (logit_bias.py there), and two block tables a number for each block of a request
    (``BlockTables`` in vllm/v1/worker/gpu/block_table.py).
    """
    penalties = facts.vocabulary + -(-facts.vocabulary // 32)
    blocks = 2 * -(-limits.max_model_len // TABLE_TOKENS)
    return limits.sequences * (penalties + 3200 + blocks) * INT
