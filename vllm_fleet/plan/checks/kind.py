"""The kind of a server against what its model can be served as."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from vllm_fleet.plan.checks.arguments import overrides, problem
from vllm_fleet.plan.declaration import ModelServer
from vllm_fleet.plan.extra_args import flag, without
from vllm_fleet.plan.models.facts import ModelFacts
from vllm_fleet.plan.models.kinds import SCORING_SUFFIX, kinds
from vllm_fleet.plan.problems import Problem

POOLING_FLAGS = ("pooler-config", "convert")
QWEN3_RERANKER = re.compile(r"qwen3-(vl-)?reranker", re.IGNORECASE)


def check_kind(server: ModelServer, facts: ModelFacts) -> Iterator[Problem]:
    """Yield what is wrong about the kind of a server for its model; hf-overrides may make another model of it."""
    serves, architecture = facts.kinds, facts.architecture
    named = overrides(server).get("architectures")
    if isinstance(named, list) and named:
        architecture = str(named[0])
        serves = kinds(architecture, labels=1, sentence_transformer="embedding" in facts.kinds[:1])
    if server.kind in serves[:1]:
        if overrides(server).get("is_original_qwen3_reranker") and server.chat_template is None:
            message = f"{server.model} was trained with a prompt of its own, without which its scores are near constant"
            message += "; declare chat_template, such as vLLM's qwen3_reranker.jinja (examples/pooling/score/template)"
            yield problem(server, message, severity="warning")
        return
    is_a = f"model {server.model} has the architecture {architecture}"
    if server.kind == "rerank" and serves and QWEN3_RERANKER.search(server.model):
        # As it lies on the hub it is a language model that says yes or no (vLLM's `Qwen3ForSequenceClassification`).
        needed = {
            "architectures": [re.sub("For(CausalLM|ConditionalGeneration)", SCORING_SUFFIX, facts.architecture)],
            "classifier_from_token": ["no", "yes"],
            "is_original_qwen3_reranker": True,
        }
        arguments = {**without(server, "hf-overrides"), "hf-overrides": {**overrides(server), **needed}}
        message = f"{is_a}, and scores only with extra_args: {{hf-overrides: {json.dumps(needed)}}}"
        yield problem(server, message, ("extra_args", arguments))
    elif not serves:
        yield problem(
            server,
            f"{is_a}, which vLLM serves neither as llm nor as embedding nor as rerank (a reranker has one label)",
        )
    elif server.kind not in serves:
        changes: list[tuple[str, Any]] = [("kind", serves[0])]
        changes += [(key, None) for key in ("tool_call_parser", "chat_template") if getattr(server, key) is not None]
        yield problem(server, f"{is_a}, which cannot be served as {server.kind}; declare kind: {serves[0]}", *changes)
    elif server.kind == "embedding" and serves[0] == "llm":
        doubt = "its embeddings are the state of its last token, which it was not trained for"
        message = f"{is_a} without modules.json of sentence-transformers: {doubt}. Choose an embedding model"
        yield problem(server, message, severity="warning")
    elif server.kind == "llm" and serves[0] == "embedding":
        message = f"{is_a} with modules.json of sentence-transformers, so made for embeddings; declare kind: embedding"
        yield problem(server, message, severity="warning")


def check_pooling_flags(server: ModelServer) -> Iterator[Problem]:
    """Yield flags of pooling models that a generating one is given."""
    given = [name for name in POOLING_FLAGS if flag(server, name) not in (None, "none", "auto")]
    if server.kind == "llm" and given:
        message = f"{', '.join(given)} in extra_args is for embedding and rerank servers; an llm would not answer chats"
        yield problem(server, f"{message}. Remove it", ("extra_args", without(server, *given)))
