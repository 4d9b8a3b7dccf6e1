"""What a device cannot do that a server asks of it, one kind of reason after the other.

Of a device only its compute capability counts; `vllm_fleet.plan.checks.device` says which devices have it. Where vLLM
0.32 decides each is in the docstrings.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from vllm_fleet.plan.declaration import ModelServer
from vllm_fleet.plan.extra_args import flag, without
from vllm_fleet.plan.models.catalogue import catalogue
from vllm_fleet.plan.models.facts import ModelFacts
from vllm_fleet.plan.problems import Change
from vllm_fleet.plan.quantization import Method, methods

Capability = tuple[int, int]
# The architectures vLLM's wheel and its torch are built for begin here.
LEAST = (7, 5)
BFLOAT16 = (8, 0)
FP8 = (8, 9)
# Each a format of checkpoints and, for models that are not quantized, one to quantize to while loading.
EITHER = ("mxfp4", "mxfp8")
FP8_METHODS = ("fp8", "fbgemm_fp8")  # names begin so
# Attention backends by the major compute capabilities they run on: supports_compute_capability of each below
# vllm/v1/attention/backends. Triton's and FlexAttention run on all.
ATTENTION = {
    "FLASH_ATTN": (8, 9, 10, 11, 12),
    "FLASHINFER": (8, 9, 10, 11, 12),
    "FLASH_ATTN_MLA": (9,),
    "FLASHMLA": (9, 10),
    "FLASHINFER_MLA": (10,),
    "CUTLASS_MLA": (10,),
}
SAME = {"half": "float16", "float": "float32"}


@dataclass(frozen=True)
class Doubt:
    """Why a server and a device do not go together, and changes of the server each of which may help.

    ``message`` is the first half of a sentence; it is about every device unless ``lacking``, which says that the
    device's compute capability is too low for it.
    """

    message: str
    severity: str = "error"
    lacking: bool = True
    changes: tuple[Change, ...] = field(default=(), compare=False)


def doubts(server: ModelServer, facts: ModelFacts | None, capability: Capability | None) -> Iterator[Doubt]:
    """Yield every reason why a server would not run, or not well, on devices of a compute capability.

    Where that is None, as for main memory, those remain that hang on no device.
    """
    if capability is not None and capability < LEAST:
        yield Doubt(f"vLLM needs compute capability {_text(LEAST)}")
        return
    name = _quantization_of(server, facts)
    method = methods().get(name or "")
    if capability is not None:
        if method is not None and capability < method.capability:
            yield Doubt(f"quantization {name} needs compute capability {_text(method.capability)}")
            return
        yield from _dtype(server, facts, capability)
        yield from _kv_cache(server, facts, capability)
        yield from _attention(server, capability)
    if name is not None and method is not None:
        yield from _quantization(server, facts, capability, name, method)


def dtype_on(server: ModelServer, facts: ModelFacts | None, capability: Capability | None) -> str | None:
    """Return the dtype a server computes in on a device, None where that is not known.

    ``auto`` is the model's own dtype unless that is float32 or the device lacks it; then pooling models get float16,
    others the first that model and device both have (_resolve_auto_dtype in vllm/config/model.py).
    """
    if server.dtype != "auto":
        return SAME.get(server.dtype, server.dtype)
    if facts is None:
        return None
    having = ["bfloat16", "float16", "float32"]
    if capability is not None and capability < BFLOAT16:
        having.remove("bfloat16")
    if facts.model_type in catalogue().float16_refused:
        having.remove("float16")
    if facts.dtype in having and facts.dtype != "float32":
        return facts.dtype
    return "float16" if server.kind != "llm" and "float16" in having else having[0]


def _dtype(server: ModelServer, facts: ModelFacts | None, capability: Capability) -> Iterator[Doubt]:
    """check_if_supports_dtype in vllm/platforms/cuda.py: bfloat16 is refused below 8.0, where auto avoids it."""
    if capability >= BFLOAT16:
        return
    instead = "float32" if facts is not None and facts.model_type in catalogue().float16_refused else "float16"
    change = Change(server.name, "dtype", instead)
    if server.dtype == "bfloat16":
        yield Doubt(f"dtype bfloat16 needs compute capability {_text(BFLOAT16)}", changes=(change,))
    elif server.dtype == "auto" and facts is not None and facts.dtype == "bfloat16":
        cost = ", with twice the memory and a fraction of the speed" if instead == "float32" else ""
        yield Doubt(
            f"the model is bfloat16, which needs compute capability {_text(BFLOAT16)}; with dtype auto vLLM computes "
            f"in {instead} below that{cost}",
            "warning",
            changes=(change,),
        )


def _quantization(
    server: ModelServer, facts: ModelFacts | None, capability: Capability | None, name: str, method: Method
) -> Iterator[Doubt]:
    """_get_quantization_config in vllm/config/vllm.py and _verify_quantization in vllm/config/model.py."""
    if capability is not None and capability < FP8 and name.startswith(FP8_METHODS):
        yield Doubt(
            f"arithmetic in fp8 begins with compute capability {_text(FP8)}; below it vLLM keeps the weights of "
            f"quantization {name} in fp8 and computes in 16 bits (Marlin), which saves memory but no time",
            "warning",
        )
    dtype = dtype_on(server, facts, capability)
    if dtype is not None and dtype not in method.dtypes:
        changes = tuple(Change(server.name, "dtype", one) for one in method.dtypes)
        only = " or ".join(method.dtypes)
        yield Doubt(f"quantization {name} computes in {only} only, dtype is {dtype}", lacking=False, changes=changes)
    if method.deprecated and not flag(server, "allow-deprecated-quantization"):
        allowed = {**server.extra_args, "allow-deprecated-quantization": True}
        yield Doubt(
            f"quantization {name} is deprecated, and vLLM refuses it",
            lacking=False,
            changes=(Change(server.name, "extra_args", allowed),),
        )


def _kv_cache(server: ModelServer, facts: ModelFacts | None, capability: Capability) -> Iterator[Doubt]:
    """TritonAttentionImpl in vllm/v1/attention/backends/triton_attn.py, to which vLLM falls back from all others.

    FlashAttention takes fp8 on Hopper and Blackwell alone (flash_attn_supports_kv_cache_dtype in fa_utils.py),
    FlashInfer from 8.0 on (flashinfer.py), Triton from 8.9 on; none but FlashInfer takes nvfp4. Of the backends for MLA
    those below 9.0 are Triton's.
    """
    dtype = flag(server, "kv-cache-dtype")
    if dtype is None:
        return
    changes = (Change(server.name, "extra_args", without(server, "kv-cache-dtype")),)
    if dtype in ("bfloat16", "nvfp4") and capability < BFLOAT16:
        yield Doubt(f"kv-cache-dtype {dtype} needs compute capability {_text(BFLOAT16)}", changes=changes)
    if not str(dtype).startswith("fp8") or capability >= FP8:
        return
    by_triton = dtype == "fp8_per_token_head" or (facts is not None and facts.kv_lora_rank is not None)
    if by_triton or capability < BFLOAT16:
        least = FP8 if by_triton else BFLOAT16
        yield Doubt(f"kv-cache-dtype {dtype} needs compute capability {_text(least)}", changes=changes)
    else:
        yield Doubt(
            f"below compute capability {_text(FP8)} FlashInfer alone can keep a KV cache in {dtype}; where it cannot "
            "be used (it needs flashinfer-cubin, or nvcc on the host) the server does not start",
            "warning",
            changes=changes,
        )


def _attention(server: ModelServer, capability: Capability) -> Iterator[Doubt]:
    """validate_configuration in vllm/v1/attention/backend.py: a backend that was asked for by name must fit."""
    backend = flag(server, "attention-backend")
    majors = ATTENTION.get(str(backend).upper())
    if majors is None or capability[0] in majors:
        return
    yield Doubt(
        f"attention-backend {backend} runs on compute capability {', '.join(f'{major}.x' for major in majors)}",
        changes=(Change(server.name, "extra_args", without(server, "attention-backend")),),
    )


def _quantization_of(server: ModelServer, facts: ModelFacts | None) -> str | None:
    """Return the method, by the name under which vLLM knows its needs (get_quant_config in weight_utils.py)."""
    stored = facts.quantization if facts is not None else None
    if server.quantization in EITHER and stored is None:
        return None if facts is None else "online"
    return server.quantization or stored


def _text(capability: Capability) -> str:
    return f"{capability[0]}.{capability[1]}"
