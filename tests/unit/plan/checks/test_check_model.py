"""Servers against their models: what vLLM would refuse, or serve badly, is one sentence with a way out that works."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from vllm_fleet.plan.checks.model import check_model
from vllm_fleet.plan.checks.tensor_parallel import sizes
from vllm_fleet.plan.checks.tool_parsers import MARKERS, UNMARKED, fitting
from vllm_fleet.plan.declaration import parse
from vllm_fleet.plan.flags import FlagCatalogue
from vllm_fleet.plan.models.facts import ModelFacts
from vllm_fleet.plan.models.read import interpret
from vllm_fleet.plan.models.shipped import names, shipped
from vllm_fleet.plan.problems import Problem

FLAGS = FlagCatalogue.load()
QWEN, BGE, RERANKER = "Qwen/Qwen2.5-3B-Instruct", "BAAI/bge-m3", "BAAI/bge-reranker-v2-m3"
HERMES = "{% if tools %}<tools>{{ tools }}</tools> answer with <tool_call>{...}</tool_call>{% endif %}"
RERANK_OVERRIDES = {
    "architectures": ["Qwen3ForSequenceClassification"],
    "classifier_from_token": ["no", "yes"],
    "is_original_qwen3_reranker": True,
}


def facts_of(model: str, **changes: Any) -> ModelFacts:
    description = shipped(model)
    assert description is not None
    return replace(interpret(description, model), **changes)


def problems_of(declared: dict[str, Any], facts: ModelFacts) -> list[Problem]:
    (server,), wrong = parse([{"name": "s", "port": 8000, "kind": "llm", **declared}], FLAGS)
    assert wrong == ()
    return check_model(server, facts, FLAGS)


# What is declared, what is different about the model, and a part of the one error there is.
ERRORS: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"model": BGE}, {}, "cannot be served as llm; declare kind: embedding"),
    ({"model": RERANKER, "kind": "embedding"}, {}, "cannot be served as embedding; declare kind: rerank"),
    ({"model": BGE, "kind": "rerank"}, {}, "cannot be served as rerank; declare kind: embedding"),
    ({"model": QWEN, "kind": "rerank"}, {}, "cannot be served as rerank; declare kind: llm"),
    ({"model": BGE, "tool_call_parser": "hermes"}, {}, "declare kind: embedding"),
    ({"model": "Qwen/Qwen3-Reranker-0.6B", "kind": "rerank"}, {}, "scores only with extra_args: {hf-overrides:"),
    ({"model": QWEN, "extra_args": {"convert": "embed"}}, {}, "convert in extra_args is for embedding and rerank"),
    ({"model": QWEN, "extra_args": {"--pooler_config": "{}"}}, {}, "pooler-config in extra_args is for embedding"),
    ({"model": QWEN, "tensor_parallel_size": 3}, {}, "3 does not divide the 16 attention heads, the 2 KV heads"),
    ({"model": QWEN, "tensor_parallel_size": 32}, {}, "1, 2, 4, 8 or 16 do"),
    ({"model": QWEN, "tensor_parallel_size": 4}, {"kv_heads": 6}, "the 6 KV heads (nor is it a multiple of them)"),
    ({"model": QWEN, "tensor_parallel_size": 4}, {"intermediate_size": 11006}, "the 11,006 columns of the MLP"),
    ({"model": "Qwen/Qwen3-30B-A3B", "tensor_parallel_size": 4}, {"expert_size": 766}, "766 columns of an expert"),
    (
        {"model": "Qwen/Qwen2.5-7B-Instruct-AWQ", "tensor_parallel_size": 2},
        {"intermediate_size": 18944 + 128},
        "in the blocks of 128 that awq scales together",
    ),
    ({"model": QWEN, "max_model_len": 65536}, {}, "max_model_len 65,536 is beyond the 32,768 tokens"),
    ({"model": RERANKER, "kind": "rerank", "max_model_len": 8194}, {}, "beyond the 8,192 tokens"),
    ({"model": QWEN, "quantization": "awq"}, {}, "quantization awq reads weights that were quantized before"),
    ({"model": "Qwen/Qwen2.5-7B-Instruct-AWQ", "quantization": "fp8"}, {}, "is quantized with awq; leave it out"),
    ({"model": QWEN}, {"quantization": "bitsandbytes"}, "quantized with bitsandbytes, which vllm 0.32.0 does not read"),
    ({"model": "google/gemma-3-12b-it", "dtype": "float16"}, {}, "vLLM refuses float16 for gemma3_text models"),
    ({"model": QWEN}, {"remote_code": True}, "declare trust_remote_code: true, and a revision that you have read"),
    (
        {"model": QWEN, "tool_call_parser": "llama3_json"},
        {"chat_template": HERMES},
        "llama3_json does not read what Qwen/Qwen2.5-3B-Instruct writes; by its chat template it is hermes",
    ),
]


@pytest.mark.parametrize(("declared", "changes", "message"), ERRORS, ids=[case[2][:40] for case in ERRORS])
def test_an_error_is_one_sentence_and_each_remedy_removes_it(
    declared: dict[str, Any], changes: dict[str, Any], message: str
) -> None:
    facts = facts_of(declared["model"], **changes)
    [error] = [problem for problem in problems_of(declared, facts) if problem.severity == "error"]
    assert message in error.message
    assert error.where == "server s"
    assert error.remedies or "choose another quantization" in error.message
    for remedy in error.remedies:
        changed = {**declared, **{change.key: change.value for change in remedy}}
        assert [p for p in problems_of(changed, facts) if p.severity == "error"] == []


WARNINGS: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"model": QWEN, "kind": "embedding"}, {}, "Choose an embedding model"),
    ({"model": "Qwen/Qwen3-Embedding-0.6B"}, {}, "made for embeddings; declare kind: embedding"),
    (
        {"model": "Qwen/Qwen3-Reranker-0.6B", "kind": "rerank", "extra_args": {"hf-overrides": RERANK_OVERRIDES}},
        {},
        "declare chat_template, such as vLLM's qwen3_reranker.jinja",
    ),
    ({"model": QWEN, "dtype": "float16"}, {}, "was trained in bfloat16"),
    ({"model": QWEN, "trust_remote_code": True}, {}, "trust_remote_code is not needed"),
    ({"model": QWEN}, {"chat_template": ""}, "has no chat template"),
    ({"model": QWEN, "tool_call_parser": "hermes"}, {"chat_template": "{{ messages }}"}, "does not hand tools"),
    ({"model": QWEN}, {"transformers_version": "6.1.0"}, "saved by transformers 6.1.0, newer than the 5."),
]


@pytest.mark.parametrize(("declared", "changes", "message"), WARNINGS, ids=[case[2][:40] for case in WARNINGS])
def test_a_doubt_is_a_warning(declared: dict[str, Any], changes: dict[str, Any], message: str) -> None:
    [warning] = problems_of(declared, facts_of(declared["model"], **changes))
    assert message in warning.message
    assert warning.severity == "warning"


FINE: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"model": QWEN, "tensor_parallel_size": 8, "max_model_len": 32768, "dtype": "bfloat16"}, {}),
    ({"model": QWEN, "tool_call_parser": "hermes"}, {"chat_template": HERMES}),
    ({"model": QWEN, "tool_call_parser": "llama3_json", "chat_template": "/own.jinja"}, {"chat_template": HERMES}),
    ({"model": QWEN, "tool_call_parser": "pythonic"}, {"chat_template": HERMES}),
    ({"model": QWEN, "trust_remote_code": True}, {"remote_code": None}),
    ({"model": QWEN, "quantization": "fp8"}, {}),
    ({"model": QWEN, "max_model_len": 65536, "env": {"VLLM_ALLOW_LONG_MAX_MODEL_LEN": "1"}}, {}),
    ({"model": QWEN, "max_model_len": 65536, "extra_args": {"hf-overrides": '{"rope_scaling": {"factor": 4}}'}}, {}),
    ({"model": "Qwen/Qwen2.5-7B-Instruct-AWQ", "quantization": "awq_marlin"}, {}),
    ({"model": BGE, "kind": "embedding", "dtype": "float16", "extra_args": {"pooler-config": "{}"}}, {}),
    ({"model": RERANKER, "kind": "rerank", "dtype": "float16", "max_model_len": 8192}, {}),
    ({"model": "deepseek-ai/DeepSeek-V3", "tensor_parallel_size": 16}, {}),
    (
        {"model": "Qwen/Qwen3-30B-A3B", "tensor_parallel_size": 32, "extra_args": {"enable-expert-parallel": True}},
        {"expert_size": 766},
    ),
]


@pytest.mark.parametrize(("declared", "changes"), FINE)
def test_what_vllm_serves_is_let_through(declared: dict[str, Any], changes: dict[str, Any]) -> None:
    assert problems_of(declared, facts_of(declared["model"], **changes)) == []


@pytest.mark.parametrize("model", names())
def test_every_shipped_model_can_be_served_as_what_it_is(model: str) -> None:
    facts = facts_of(model)
    assert problems_of({"model": model, "kind": facts.kinds[0]}, facts) == []
    assert sizes(facts)[:2] == [1, 2]


# What real chat templates teach: excerpts of the published ones.
TEMPLATES = {
    "hermes": 'within <tool_call></tool_call> XML tags:\\n<tool_call>\\n{"name": <function-name>',
    "qwen3_coder": "<tool_call>\\n<function=example_function_name>\\n<parameter=example_parameter_1>",
    "glm45": "<tool_call>{function-name}\\n<arg_key>{arg-key-1}</arg_key>",
    "mistral": '{{- "[TOOL_CALLS] [" }}',
    "llama3_json": '{"name": function name, "parameters": dictionary of argument name and its value}',
    "deepseek_v3": "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>",
    "kimi_k2": "<|tool_calls_section_begin|>",
    "openai": '"<|start|>assistant to=" ~ "functions." ~ tool_call.name ~ "<|channel|>commentary json<|message|>"',
    "minimax_m2": "<minimax:tool_call>",
}


@pytest.mark.parametrize("parser", TEMPLATES)
def test_the_parser_is_told_by_the_chat_template(parser: str) -> None:
    assert fitting(TEMPLATES[parser])[0] == parser


def test_every_parser_that_is_named_exists() -> None:
    named = {parser for _marker, parsers in MARKERS for parser in parsers} | set(UNMARKED)
    assert named <= set(FLAGS.flags["tool-call-parser"].choices or ())
