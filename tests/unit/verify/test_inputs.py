"""Endpoints and questions: what is read, and the sentence for what cannot be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vllm_fleet.errors import FleetError
from vllm_fleet.verify.endpoint import Endpoint, labels, parse_endpoints
from vllm_fleet.verify.questions import load_questions

SERVER: dict[str, Any] = {
    "name": "llm",
    "host": "gpu-1",
    "unit": "vllm-llm.service",
    "kind": "llm",
    "base_url": "http://10.0.0.2:32804/",
    "model": "qwen2.5-3b-instruct",
    "dtype": "float16",
    "tensor_parallel_size": 2,
    "max_model_len": None,
    "tool_calls": True,
    "api_key": "sk-secret",
    "trust_remote_code": False,
}

GATEWAY: dict[str, Any] = {
    "name": "gateway",
    "host": "gw-1",
    "unit": "vllm-gateway.service",
    "kind": "gateway",
    "base_url": "https://gw.example:8443",
    "api_key": "sk-secret",
    "served": [{"name": "llm", "kind": "llm", "model": "m", "url": "https://gw.example:8443/servers/llm"}],
    "instances": [{"server": "llm", "host": "gpu-1", "unit": "vllm-llm.service", "address": "10.0.0.2", "port": 32804}],
    "gateway_addresses": ["gw.example"],
}


def parse(*servers: dict[str, Any]) -> list[Endpoint]:
    return parse_endpoints(json.dumps({"servers": servers}), "servers.json")


def test_an_endpoint_is_read_and_hides_its_key() -> None:
    (endpoint,) = parse(SERVER)
    assert endpoint.base_url == "http://10.0.0.2:32804"
    assert endpoint.address == ("10.0.0.2", 32804)
    assert endpoint.api_key == "sk-secret"
    assert "sk-secret" not in repr(endpoint)


def test_a_gateway_is_read_with_what_is_behind_it() -> None:
    (gateway,) = parse(GATEWAY)
    assert (gateway.served[0].path, gateway.served[0].max_model_len) == ("/servers/llm", None)
    assert (gateway.instances[0].address, gateway.instances[0].port) == ("10.0.0.2", 32804)
    assert gateway.gateway_addresses == ("gw.example",)
    assert "sk-secret" not in repr(gateway)


def test_a_server_behind_a_gateway_is_read_with_its_path() -> None:
    (server,) = parse(SERVER | {"base_url": "https://gw.example:8443/servers/llm/", "gateway": "gw-1"})
    assert server.base_url == "https://gw.example:8443/servers/llm"
    assert server.address == ("gw.example", 8443)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"served": []}, "served is missing"),
        ({"served": "llm"}, "served must be a list, found str"),
        ({"served": [{"name": "llm"}]}, "served (llm): kind is missing"),
        ({"served": [GATEWAY["served"][0] | {"kind": "gateway"}]}, "kind must be one of llm, embedding, rerank"),
        ({"served": [GATEWAY["served"][0] | {"url": "gw/servers/llm"}]}, "base_url must look like http://"),
        ({"instances": [GATEWAY["instances"][0] | {"port": "32804"}]}, "port must be a whole number, found '32804'"),
        ({"instances": [GATEWAY["instances"][0] | {"key": "x"}]}, "unknown key 'key'; known are server, host"),
        ({"gateway_addresses": [1]}, "gateway_addresses must be text, found 1"),
        ({"model": "m"}, "model does not apply to kind gateway"),
        ({"base_url": "https://gw.example:8443/servers/llm"}, "the base_url of a gateway has no path"),
    ],
    ids=str,
)
def test_a_wrong_value_of_a_gateway_is_named(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(FleetError) as raised:
        parse(GATEWAY | change)
    assert "server 1 (gateway)" in str(raised.value)
    assert sentence in str(raised.value)


def test_what_belongs_to_a_gateway_is_refused_of_a_server() -> None:
    with pytest.raises(FleetError, match=r"server 1 \(llm\): served does not apply to kind llm"):
        parse(SERVER | {"served": GATEWAY["served"]})


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_certificates_that_cannot_be_read_are_a_sentence(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "ca.pem"
    if content:
        file.write_text(content)
    with pytest.raises(FleetError) as raised:
        parse(SERVER | {"ca_file": str(file)})
    assert f"server 1 (llm): ca_file {file} holds no certificates that can be read" in str(raised.value)


def test_a_built_in_question_can_be_left_out_with_a_reason(tmp_path: Path) -> None:
    file = written(tmp_path, 'llm: {chat: [{id: capital_of_france_chinese, skip: "it speaks no Chinese"}]}')
    built_in, questions = load_questions(), load_questions(file)
    assert [one.id for one in questions.chat] == [one.id for one in built_in.chat]
    assert {one.id: one.skip for one in questions.chat if one.skip} == {
        "capital_of_france_chinese": "it speaks no Chinese"
    }
    assert "capital_of_france_chinese" not in [one.id for one in questions.reproducible_chat]


def test_limits_of_figures_are_read_by_kind(tmp_path: Path) -> None:
    file = written(tmp_path, "llm: {limits: {tokens_per_second: 500, first_token_seconds: 0.2}}")
    assert load_questions(file).limits == {"llm": {"tokens_per_second": 500, "first_token_seconds": 0.2}}
    assert load_questions().limits == {}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "servers.json is not JSON"),
        ("[]", 'expected {"servers": [...]}, found list'),
        ('{"servers": []}', "names no server, so there is nothing to verify"),
        ('{"servers": ["llm"]}', "server 1: expected an object, found str"),
    ],
)
def test_a_file_of_another_form_is_refused(text: str, sentence: str) -> None:
    with pytest.raises(FleetError) as raised:
        parse_endpoints(text, "servers.json")
    assert sentence in str(raised.value)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"kind": "chat"}, "kind must be one of llm, embedding, rerank, gateway, found 'chat'"),
        ({"tensor_parallel_size": "2"}, "tensor_parallel_size must be a whole number, found '2'"),
        ({"tensor_parallel_size": True}, "tensor_parallel_size must be a whole number, found True"),
        ({"base_url": "10.0.0.2:32804"}, "base_url must look like http://"),
        ({"base_url": "http://10.0.0.2:port"}, "base_url must look like http://"),
        ({"base_url": "http://10.0.0.2:32804/v1"}, "base_url is given without /v1"),
        ({"base_url": "http://me:secret@10.0.0.2:32804"}, "base_url must hold no user and password"),
        ({"port": 32804}, "unknown key 'port'"),
    ],
    ids=str,
)
def test_a_wrong_value_is_named_with_its_server(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(FleetError) as raised:
        parse(SERVER | change)
    assert f"server 1 (llm): {sentence}" in str(raised.value)


def test_a_wrong_api_key_is_not_repeated() -> None:
    with pytest.raises(FleetError) as raised:
        parse(SERVER | {"api_key": ["sk-secret"]})
    assert "api_key must be text or null" in str(raised.value)
    assert "sk-secret" not in str(raised.value)


def test_a_missing_key_is_named() -> None:
    with pytest.raises(FleetError, match=r"server 1 \(llm\): model is missing"):
        parse({key: value for key, value in SERVER.items() if key != "model"})


def test_the_same_server_twice_is_refused() -> None:
    with pytest.raises(FleetError, match="server llm on gpu-1 is there 2 times"):
        parse(SERVER, SERVER)


def test_labels_name_the_host_only_where_a_name_is_there_twice() -> None:
    servers = parse(SERVER, SERVER | {"host": "gpu-2"}, SERVER | {"name": "rerank", "kind": "rerank"})
    assert labels(servers) == ["llm@gpu-1", "llm@gpu-2", "rerank"]


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "own.yml"
    file.write_text(text, encoding="utf-8")
    return file


def test_the_built_in_questions_hold_the_guide_s_requests() -> None:
    questions = load_questions()
    guide = questions.chat[0]
    assert guide.id == "guide_introduction"
    assert guide.request == {"temperature": 0.7, "top_p": 0.8, "max_tokens": 512, "repetition_penalty": 1.05}
    assert questions.guide_texts == ("你好，世界", "Hello, world", "深度学习")
    assert questions.ranking[0].order == (1, 0, 2)
    assert [one.id for one in questions.reproducible_chat] == [one.id for one in questions.chat[1:]]


def test_own_questions_are_added_and_take_the_place_of_those_with_their_id(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        """
        rerank:
          ranking:
            - {id: boiling_water, query: q, documents: [a, b], best: 0}
            - {id: own, query: q, documents: [a, b], order: [1, 0]}
        """,
    )
    built_in, questions = load_questions(), load_questions(file)
    assert [one.id for one in questions.ranking] == [*(one.id for one in built_in.ranking), "own"]
    assert next(one for one in questions.ranking if one.id == "boiling_water").order == (0,)
    assert questions.chat == built_in.chat


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("llm: [", "is not YAML"),
        ("- 1", "expected the sections llm, embedding, rerank, found list"),
        ("chat: {}", "unknown section 'chat'"),
        ("llm: {chats: []}", "llm: unknown key 'chats'; known are chat, limits, tools"),
        ("llm: {chat: []}", "llm.chat: expected a list with entries"),
        ("llm: {chat: [{id: x, messages: [{}]}]}", "llm.chat: x: expect is missing"),
        ("llm: {chat: [{id: x, messages: [{}], expect: {contains_any: Paris}}]}", "contains_any must be of type list"),
        ("embedding: {closer: [{id: x, text: a, paraphrase: b}]}", "closer: x: unrelated is missing"),
        ("llm: {chat: [{id: x, skip: none}]}", "id must be one of guide_introduction, "),
        ("llm: {tools: [{id: x, messages: [{}], tools: [{}], expect: {calls: [{tool: t}]}}]}", "arguments is missing"),
        ("llm: {limits: {p99: 1}}", "llm.limits: unknown figure 'p99'; known are first_token_seconds, "),
        ("llm: {limits: {slowest_seconds: fast}}", "slowest_seconds must be of type int | float, found 'fast'"),
        ("rerank: {ranking: [{id: x, query: q, documents: [a], best: 1}]}", "expected a number from 0 to 0, found 1"),
        ("rerank: {ranking: [{id: x, query: q, documents: [a, b], order: [1, 1]}]}", "name each document once"),
    ],
)
def test_a_mistake_in_own_questions_is_named_with_its_place(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(FleetError) as raised:
        load_questions(written(tmp_path, text))
    assert sentence in str(raised.value)
    assert "own.yml" in str(raised.value)


def test_a_missing_file_of_questions_is_named(tmp_path: Path) -> None:
    with pytest.raises(FleetError, match=r"The questions cannot be read from .*none\.yml"):
        load_questions(tmp_path / "none.yml")
