"""A server against its model: what vLLM would refuse minutes into a start, or serve badly without a word.

The rules are those of vLLM 0.32's config/model.py unless another source is named.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from vllm_fleet.plan.checks.arguments import CODE, overrides, problem
from vllm_fleet.plan.checks.kind import check_kind, check_pooling_flags
from vllm_fleet.plan.checks.tensor_parallel import obstacles, sizes
from vllm_fleet.plan.checks.tool_parsers import UNMARKED, fitting, mentions_tools
from vllm_fleet.plan.declaration import ModelServer
from vllm_fleet.plan.extra_args import flag
from vllm_fleet.plan.flags import FlagCatalogue
from vllm_fleet.plan.models.catalogue import catalogue
from vllm_fleet.plan.models.facts import ModelFacts
from vllm_fleet.plan.problems import Change, Problem
from vllm_fleet.plan.sentences import listed

# Their tokenizers write the prompt themselves, without a chat template.
WITHOUT_TEMPLATE = ("deepseek_v32", "deepseek_v4", "deepseek_v41", "inkling_model", "kimi_k3", "mistral", "mixtral")
# Names for one method: what a model was quantized with, and the kernels that read it.
READERS = {
    "awq": ("awq", "auto_awq", "awq_marlin", "moe_wna16", "humming"),
    "gptq": ("gptq", "auto_gptq", "gptq_marlin", "moe_wna16", "humming"),
    "mxfp4": ("mxfp4", "gpt_oss_mxfp4", "humming"),
}
# These read what was quantized before; the others quantize while they load.
NEED_QUANTIZED = (
    "awq",
    "auto_awq",
    "awq_marlin",
    "gptq",
    "auto_gptq",
    "gptq_marlin",
    "compressed-tensors",
    "moe_wna16",
)


def check_model(server: ModelServer, facts: ModelFacts, flags: FlagCatalogue) -> list[Problem]:
    """Return what is wrong, or doubtful, about a server for its model.

    Args:
        server: what is declared.
        facts: of its model.
        flags: those of the pinned vLLM.
    """
    checks = (
        check_kind(server, facts),
        check_pooling_flags(server),
        _tensor_parallel(server, facts),
        _length(server, facts),
        _quantization(server, facts, flags),
        _dtype(server, facts),
        _remote_code(server, facts),
        _chat_template(server, facts),
        _transformers(server, facts),
    )
    return [found for check in checks for found in check]


def _tensor_parallel(server: ModelServer, facts: ModelFacts) -> Iterator[Problem]:
    size, expert_parallel = server.tensor_parallel_size, bool(flag(server, "enable-expert-parallel"))
    reasons = list(obstacles(facts, size, expert_parallel))
    if not reasons:
        return
    fitting_sizes = sizes(facts, expert_parallel)
    fitting = f"{listed(fitting_sizes, 'or')} {'do' if len(fitting_sizes) > 1 else 'does'}"
    # The smaller first: it needs no more GPUs.
    nearest = [max(fits for fits in fitting_sizes if fits < size), *[fits for fits in fitting_sizes if fits > size][:1]]
    also = [Change(server.name, "gpus", None)] if server.gpus is not None else []
    remedies = tuple((Change(server.name, "tensor_parallel_size", fits), *also) for fits in nearest)
    message = f"tensor_parallel_size {size} does not divide {listed(reasons)} of {server.model}; {fitting}"
    yield Problem(f"server {server.name}", message, CODE, "error", remedies)


def _length(server: ModelServer, facts: ModelFacts) -> Iterator[Problem]:
    most, changed = facts.max_model_len, overrides(server)
    stretched = any("rope" in key or "max_" in key for key in (*changed, *_nested(changed)))
    if server.max_model_len is None or most is None or server.max_model_len <= most or stretched:
        return
    if server.env.get("VLLM_ALLOW_LONG_MAX_MODEL_LEN", "0").lower() in ("1", "true"):
        return
    message = f"max_model_len {server.max_model_len:,} is beyond the {most:,} tokens of {server.model}; declare at most"
    yield problem(server, f"{message} {most:,}", ("max_model_len", most))


def _nested(changed: Mapping[str, Any]) -> list[str]:
    return [key for value in changed.values() if isinstance(value, Mapping) for key in value]


def _quantization(server: ModelServer, facts: ModelFacts, flags: FlagCatalogue) -> Iterator[Problem]:
    declared, stored = server.quantization, facts.quantization
    catalogued = flags.flags.get("quantization")
    known = catalogued.choices if catalogued else None
    if stored is not None and known and stored not in known:
        message = f"model {server.model} is quantized with {stored}, which vllm {flags.version} does not read; choose"
        yield problem(server, f"{message} another quantization of the model")
    elif declared is not None and stored is not None and declared not in READERS.get(stored, (stored,)):
        message = f"quantization {declared} is declared, but {server.model} is quantized with {stored}; leave it out"
        yield problem(server, message, ("quantization", None))
    elif declared in NEED_QUANTIZED and stored is None:
        message = (
            f"quantization {declared} reads weights that were quantized before, and those of {server.model} are not"
        )
        yield problem(
            server, f"{message}; leave it out, or declare fp8, which quantizes while loading", ("quantization", None)
        )


def _dtype(server: ModelServer, facts: ModelFacts) -> Iterator[Problem]:
    if server.dtype not in ("float16", "half"):
        return
    if facts.model_type in catalogue().float16_refused:
        message = f"dtype {server.dtype}: vLLM refuses float16 for {facts.model_type} models, whose numbers overflow it"
        yield problem(server, f"{message}; declare bfloat16", ("dtype", "bfloat16"))
    elif server.kind == "llm" and facts.dtype == "bfloat16":
        message = (
            f"dtype {server.dtype}: {server.model} was trained in bfloat16, and what overflows float16 comes out as "
            "'!!!!' or empty text, often for long prompts only; bfloat16 is safer where the GPU has it (compute "
            "capability 8.0 or newer)"
        )
        yield problem(server, message, ("dtype", "bfloat16"), severity="warning")


def _remote_code(server: ModelServer, facts: ModelFacts) -> Iterator[Problem]:
    if facts.remote_code and not server.trust_remote_code:
        message = (
            f"{server.model} runs only with code of its own repository, which vLLM has no class for; declare "
            "trust_remote_code: true, and a revision that you have read"
        )
        yield problem(server, message, ("trust_remote_code", True))
    elif server.trust_remote_code and facts.remote_code is False:
        message = f"trust_remote_code is not needed: vLLM has its own code for {server.model}. Leave it out"
        yield problem(server, message, ("trust_remote_code", False), severity="warning")


def _chat_template(server: ModelServer, facts: ModelFacts) -> Iterator[Problem]:
    # The template of a path on the host is not read.
    if server.kind != "llm" or server.chat_template is not None or facts.chat_template is None:
        return
    parser, template = server.tool_call_parser, facts.chat_template
    if not template:
        if facts.model_type not in WITHOUT_TEMPLATE:
            message = (
                f"{server.model} has no chat template, so every chat is answered with an error; declare chat_template"
            )
            yield problem(server, f"{message}, or a model that is made for chats", severity="warning")
    elif parser is None or parser in UNMARKED:
        return
    elif (fits := fitting(template)) and parser not in fits:
        message = f"tool_call_parser {parser} does not read what {server.model} writes; by its chat template it is"
        yield problem(server, f"{message} {fits[0]}", ("tool_call_parser", fits[0]))
    elif not fits and not mentions_tools(template):
        message = f"the chat template of {server.model} does not hand tools to the model; leave tool_call_parser out"
        yield problem(server, message, ("tool_call_parser", None), severity="warning")


def _transformers(server: ModelServer, facts: ModelFacts) -> Iterator[Problem]:
    installed, wanted = catalogue().transformers, facts.transformers_version or ""
    major = wanted.split(".")[0]
    if major.isdecimal() and int(major) > int(installed.split(".")[0]):
        message = (
            f"{server.model} was saved by transformers {wanted}, newer than the {installed} that vLLM runs with: its "
            "tokenizer or configuration may not load. Upgrade the runtime, or choose an older revision"
        )
        yield problem(server, message, severity="warning")
