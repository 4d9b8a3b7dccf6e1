"""By what a model can be divided, as vLLM 0.32 checks it when it builds the model's layers."""

from __future__ import annotations

from collections.abc import Iterator

from vllm_fleet.plan.models.facts import ModelFacts

# vLLM's DEFAULT_VOCAB_PADDING_SIZE.
VOCABULARY_PADDING = 64
MOST = 64


def obstacles(facts: ModelFacts, size: int, expert_parallel: bool = False) -> Iterator[str]:
    """Yield why a model cannot be divided by ``size``, each as the end of "tensor_parallel_size N does not divide".

    Sources: `verify_with_parallel_config` (heads), ``QKVParallelLinear`` (KV heads divide or are replicated),
    ``MergedColumnParallelLinear`` and ``FusedMoE`` (inner sizes), ``VocabParallelEmbedding`` (vocabulary, padded), and
    the quantization's blocks (`validate_fp8_block_shape`, auto_awq.py).
    """
    if facts.attention_heads % size:
        yield f"the {facts.attention_heads} attention heads"
    more, fewer = max(size, facts.kv_heads), min(size, facts.kv_heads)
    if facts.kv_lora_rank is None and more % fewer:
        yield f"the {facts.kv_heads} KV heads (nor is it a multiple of them)"
    inner = facts.expert_size if facts.experts else facts.intermediate_size
    if inner and not (facts.experts and expert_parallel):
        if inner % size:
            yield f"the {inner:,} columns of {'an expert' if facts.experts else 'the MLP'}"
        elif facts.quantization_block and not facts.experts and inner // size % facts.quantization_block and size > 1:
            blocks = f"blocks of {facts.quantization_block}"
            yield f"the {inner:,} columns of the MLP in the {blocks} that {facts.quantization} scales together"
    padded = -(-facts.vocabulary // VOCABULARY_PADDING) * VOCABULARY_PADDING
    if padded % size:
        yield f"the vocabulary of {padded:,} (padded)"


def sizes(facts: ModelFacts, expert_parallel: bool = False) -> list[int]:
    """Return every tensor_parallel_size that suits a model."""
    return [size for size in range(1, MOST + 1) if not any(obstacles(facts, size, expert_parallel))]
