"""Limits that vLLM sets by itself where a declaration says nothing, and that decide how much memory is taken."""

from __future__ import annotations

from dataclasses import dataclass

from vllm_fleet.plan.declaration import ModelServer
from vllm_fleet.plan.extra_args import flag
from vllm_fleet.plan.host import Device
from vllm_fleet.plan.models.facts import ModelFacts
from vllm_fleet.plan.sentences import GIB
from vllm_fleet.plan.settings import Settings

# Where neither declaration nor model says how long a request may be.
UNKNOWN_LENGTH = 8192
LARGEST_CAPTURE = 512
LARGEST_CAPTURE_BLACKWELL = 1024


@dataclass(frozen=True)
class Limits:
    """Limits of one engine.

    ``batched_tokens`` go through the model in one step, ``sequences`` are generated at a time, ``in_flight_tokens``
    may be computed and not yet settled. ``captures`` are the batch sizes, in tokens, that get a CUDA graph, and
    ``decode_sizes`` is how many of those get a second one for pure decoding.
    """

    max_model_len: int
    batched_tokens: int
    sequences: int
    in_flight_tokens: int
    tensor_parallel: int
    pipeline_parallel: int
    captures: tuple[int, ...]
    decode_sizes: int

    @classmethod
    def of(cls, server: ModelServer, facts: ModelFacts, device: Device, settings: Settings) -> Limits:
        """Return the limits a server runs with.

        Follows ``EngineArgs.get_batch_defaults`` and ``_set_default_max_num_seqs_and_batched_tokens_args`` in
        vllm/engine/arg_utils.py, ``max_in_flight_tokens`` and ``_set_cudagraph_sizes`` in vllm/config/vllm.py.
        """
        pipeline_parallel = int(flag(server, "pipeline-parallel-size", 1))
        ranks = server.tensor_parallel_size * pipeline_parallel
        length = server.max_model_len or facts.length or UNKNOWN_LENGTH
        tokens, sequences = _defaults(device, settings.backend, ranks)
        if flag(server, "performance-mode", None) == "throughput":
            tokens, sequences = 2 * tokens, 2 * sequences
        declared_sequences = flag(server, "max-num-seqs", None)
        sequences = int(declared_sequences or sequences)
        declared_tokens = flag(server, "max-num-batched-tokens", None)
        if declared_tokens is None:
            if not _chunked_prefill(server, facts):
                tokens = max(tokens, length)
            tokens = min(tokens, sequences * length)
        else:
            tokens = int(declared_tokens)
        if declared_sequences is None:
            sequences = min(sequences, tokens)
        # On GPUs the scheduling of a step overlaps the step before it, except where nothing is generated.
        overlaps = server.kind == "llm" and settings.backend == "cuda" and flag(server, "async-scheduling", True)
        steps = pipeline_parallel + bool(overlaps)
        captures = _capture_sizes(server, device, settings.backend, tokens, sequences)
        return cls(
            max_model_len=length,
            batched_tokens=tokens,
            sequences=sequences,
            in_flight_tokens=steps * tokens,
            tensor_parallel=server.tensor_parallel_size,
            pipeline_parallel=pipeline_parallel,
            captures=captures,
            # Whole-model graphs exist for batches that only decode, one token per sequence.
            decode_sizes=sum(size <= sequences for size in captures) if server.kind == "llm" else 0,
        )


def caches(facts: ModelFacts) -> bool:
    """Whether the model keeps a KV cache; encoders keep none."""
    return bool(facts.cache_layers)


def blackwell(device: Device) -> bool:
    """Whether a device is a data centre GPU of the Blackwell generation."""
    return (device.compute_capability or (0, 0))[0] == 10


def _defaults(device: Device, backend: str, ranks: int) -> tuple[int, int]:
    """Return the batched tokens and sequences of an API server on such a device."""
    if backend == "cpu":
        return 2048 * ranks, 128 * ranks
    if device.memory_bytes >= 160 * GIB:
        return 16384, 1024
    if device.memory_bytes >= 70 * GIB and "a100" not in device.name.lower():
        return 8192, 1024
    return 2048, 256


def _chunked_prefill(server: ModelServer, facts: ModelFacts) -> bool:
    """Whether a long prompt may be computed in pieces (``is_chunked_prefill_supported`` in vllm/config/model.py)."""
    declared = flag(server, "enable-chunked-prefill", None)
    return caches(facts) if declared is None else bool(declared)


def _capture_sizes(server: ModelServer, device: Device, backend: str, tokens: int, sequences: int) -> tuple[int, ...]:
    """Return the batch sizes that get a CUDA graph."""
    if backend == "cpu" or flag(server, "enforce-eager", False):
        return ()
    largest = min(2 * sequences, LARGEST_CAPTURE_BLACKWELL if blackwell(device) else LARGEST_CAPTURE, tokens)
    steps = [1, 2, 4, *range(8, 256, 8), *range(256, largest + 1, 16)]
    return tuple(size for size in steps if size <= largest)
