"""Mistakes in a declaration are named all at once, each with what would be right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vllm_fleet.plan.declaration import KEYS, parse
from vllm_fleet.plan.flags import FlagCatalogue

FLAGS = FlagCatalogue.load()
LLM = {"name": "llm", "kind": "llm", "model": "Qwen/Qwen2.5-3B-Instruct", "port": 32804}
EMBEDDING = {"name": "embedding", "kind": "embedding", "model": "BAAI/bge-m3", "port": 32805}


def problems(*entries: Any) -> list[str]:
    return [str(problem) for problem in parse(list(entries), FLAGS)[1]]


def test_a_right_declaration_has_no_problems() -> None:
    servers, found = parse([LLM | {"extra_args": {"max-num-seqs": 64}}, EMBEDDING], FLAGS)
    assert found == ()
    assert [server.name for server in servers] == ["llm", "embedding"]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"max_model_length": 5}, "server llm: unknown key 'max_model_length'; did you mean max_model_len?"),
        ({"kind": "chat"}, "server llm: kind: expected one of llm, embedding, rerank, found 'chat'"),
        ({"dtype": "fp16"}, "server llm: dtype: expected one of auto, half, float16"),
        ({"port": "32804"}, "server llm: port: expected a port from 1024 to 65535, found '32804'"),
        ({"port": True}, "server llm: port: expected a port from 1024 to 65535, found True"),
        ({"model": ""}, "server llm: model is missing"),
        ({"model": "bge m3"}, "server llm: model: expected a hub id"),
        ({"model": "/models/../etc"}, "server llm: model: expected a hub id"),
        ({"tensor_parallel_size": 0}, "server llm: tensor_parallel_size: expected a number of GPUs"),
        ({"tensor_parallel_size": 2, "gpus": [0]}, "gpus names 1 GPUs, tensor_parallel_size is 2"),
        ({"gpus": [0, 0], "tensor_parallel_size": 2}, "gpus: expected a list of different GPU indices"),
        ({"trust_remote_code": "yes"}, "trust_remote_code: expected true or false, found 'yes'"),
        ({"gpu_memory_utilization": 92}, "expected a fraction of the GPU's memory"),
        ({"env": {"lower": 1}}, "env: expected a mapping of environment variable names"),
        ({"extra_args": {"max-num-seq": 4}}, "has no flag --max-num-seq; did you mean max-num-seqs?"),
        ({"extra_args": {"max-num-seqs": "many"}}, "--max-num-seqs: expected a whole number, found 'many'"),
        ({"extra_args": {"dtype": "float16"}}, "extra_args: dtype is set by the key dtype"),
        ({"extra_args": {"tensor_parallel_size": 2}}, "is set by the key tensor_parallel_size"),
        ({"extra_args": {"api-key": "x"}}, "is set by the variable model_server_api_key"),
        ({"tool_call_parser": "hermez"}, "tool_call_parser: --tool-call-parser: expected one of"),
        ({"quantization": "int3"}, "quantization: --quantization: expected one of"),
        ({"extra_args": {"task": "embed"}}, "has no flag --task"),
        ({"revision": "main", "model": "/m"}, "revision names a commit of the hub, but model is the directory /m"),
        ({"revision": "main", "copy_from": "x"}, "copy_from and revision exclude each other"),
        ({"kind": "rerank", "tool_call_parser": "hermes"}, "tool_call_parser is for kind llm"),
        ({"name": "gateway"}, "server gateway: name: vllm-gateway.service is a unit of this project"),
        ({"name": "firewall"}, "server firewall: name: vllm-firewall.service is a unit of this project"),
        ({"name": "LLM 1"}, "name: expected lower-case letters, digits and '-'"),
    ],
)
def test_one_mistake_is_one_sentence(change: dict[str, Any], expected: str) -> None:
    found = problems(LLM | change)
    assert len(found) == 1, found
    assert expected in found[0]


@pytest.mark.parametrize("raw", [None, {}, "llm", []])
def test_a_declaration_that_is_no_list_is_refused(raw: Any) -> None:
    servers, found = parse(raw, FLAGS)
    assert servers == ()
    assert "expected a list of model servers" in str(found[0])


def test_every_mistake_is_reported_at_once() -> None:
    found = problems(LLM | {"dtype": "fp16", "colour": "red"}, EMBEDDING | {"port": 32804, "name": "llm"}, "rerank")
    assert len(found) == 5, found
    assert any("name llm is declared 2 times" in text for text in found)
    assert any("port 32804 is declared 2 times (servers llm, llm)" in text for text in found)
    assert any("server 3: expected a mapping, found str" in text for text in found)


def test_missing_keys_are_all_named() -> None:
    assert problems({}) == [f"server 1: {key} is missing" for key in ("name", "kind", "model", "port")]


def test_every_key_stands_in_the_docs() -> None:
    text = (Path(__file__).resolve().parents[3] / "docs/declaration.md").read_text(encoding="utf-8")
    assert [key for key in KEYS if f"| `{key}` |" not in text] == []
