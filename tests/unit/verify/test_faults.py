"""Each way of being wrong makes the check fail that is there for it, and no other; a healthy server passes all."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.stub_server import Answer, Fault, Json, healthy, serving
from vllm_fleet.verify.endpoint import KINDS
from vllm_fleet.verify.outcome import Status
from vllm_fleet.verify.questions import load_questions
from vllm_fleet.verify.run import ServerResult, verify_server

QUESTIONS = load_questions()
STOPPING = {f"answers_{one.id}" for one in QUESTIONS.chat if one.finish_reasons == ("stop",)}
ALL_CHAT = {f"answers_{one.id}" for one in QUESTIONS.chat}
ALL_CLOSER = {f"closer_{one.id}" for one in QUESTIONS.closer}
ALL_RANKS = {f"ranks_{one.id}" for one in QUESTIONS.ranking}
CALLS = {f"calls_tool_{one.id}" for one in QUESTIONS.tools}
TOOL_CALLS = CALLS | {f"streams_tool_call_{one.id}" for one in QUESTIONS.tools}


def verified(kind: str, fault: Fault = healthy, timeout: float = 10, **serve: Any) -> ServerResult:
    with serving(kind, fault, **serve) as endpoint:
        return verify_server(endpoint, QUESTIONS, timeout)


def failed(result: ServerResult) -> dict[str, str]:
    return {one.check: f"{one.expected} | {one.got} | {one.usually}" for one in result.failures}


def rewriting(change: Callable[[Json, Json], None], *keys: str) -> Fault:
    """A fault that changes the JSON of answers that have all these keys."""

    def fault(path: str, request: Json, answer: Answer) -> Answer:
        if isinstance(answer.body, dict) and all(key in answer.body for key in keys):
            body = json.loads(json.dumps(answer.body))
            change(request, body)
            return replace(answer, body=body)
        return answer

    return fault


def on_stream(change: Callable[[list[str]], list[str]]) -> Fault:
    """A fault that changes the events of streamed texts."""

    def fault(path: str, request: Json, answer: Answer) -> Answer:
        if answer.events is None or request.get("tools"):
            return answer
        return replace(answer, events=tuple(change(list(answer.events))))

    return fault


def on_message(change: Callable[[Json], None], when: Callable[[Json], Any] = lambda choice: True) -> Fault:
    """A fault that changes the first choice of blocking chat answers that `when` picks."""

    def edit(request: Json, body: Json) -> None:
        if when(body["choices"][0]):
            change(body["choices"][0])

    return rewriting(edit, "choices")


def on_vectors(change: Callable[[Json, list[Json]], None]) -> Fault:
    """A fault that changes the vectors sent as numbers."""

    def edit(request: Json, body: Json) -> None:
        if isinstance(body["data"][0].get("embedding"), list):
            change(request, body["data"])

    return rewriting(edit, "data")


@pytest.mark.parametrize("kind", KINDS)
def test_a_healthy_server_passes_every_check(kind: str) -> None:
    result = verified(kind)
    assert failed(result) == {}
    assert result.count(Status.NOT_RUN) == 0
    assert result.count(Status.PASSED) >= 13


def test_a_server_with_the_right_key_passes() -> None:
    assert failed(verified("llm", api_key="secret")) == {}


def _serve_other_name(request: Json, body: Json) -> None:
    if body["data"][0].get("object") == "model":
        body["data"][0]["id"] = "other"


def _serve_other_length(request: Json, body: Json) -> None:
    if body["data"][0].get("object") == "model":
        body["data"][0]["max_model_len"] = 512


def _name_other(request: Json, body: Json) -> None:
    body["model"] = "other"


def _without_usage(request: Json, body: Json) -> None:
    del body["usage"]


def _miscount(request: Json, body: Json) -> None:
    body["usage"]["total_tokens"] += 1


def _to_length(choice: Json) -> None:
    choice["finish_reason"] = "length"


def _leak(choice: Json) -> None:
    choice["message"]["content"] += "<|im_end|>"


def _say_something_else(choice: Json) -> None:
    choice["message"]["content"] = "Berlin"


def _tool_call_as_text(choice: Json) -> None:
    call = choice["message"]["tool_calls"][0]["function"]
    choice["message"] = {"content": f"<tool_call>\n{json.dumps(call)}\n</tool_call>", "tool_calls": []}
    choice["finish_reason"] = "stop"


def _wrong_city(choice: Json) -> None:
    choice["message"]["tool_calls"][0]["function"]["arguments"] = '{"city": "Berlin", "unit": "celsius"}'


def _no_json(choice: Json) -> None:
    choice["message"]["tool_calls"][0]["function"]["arguments"] = '{"city": "Par'


def _stop(choice: Json) -> None:
    choice["finish_reason"] = "stop"


def _is_tool_call(choice: Json) -> Any:
    return choice["message"].get("tool_calls")


def _is_text(choice: Json) -> Any:
    return choice["message"].get("content") != "pong" and not _is_tool_call(choice)


def _accept_any_model(path: str, request: Json, answer: Answer) -> Answer:
    return Answer({"object": "chat.completion"}) if answer.status == 404 else answer


def _null_in_long_texts(request: Json, data: list[Json]) -> None:
    if "truncate_prompt_tokens" in request:
        data[-1]["embedding"][3] = None


def _nan_everywhere(request: Json, data: list[Json]) -> None:
    data[0]["embedding"][0] = math.nan


def _longer(request: Json, data: list[Json]) -> None:
    for entry in data:
        entry["embedding"] = [2 * one for one in entry["embedding"]]


def _cut_some(request: Json, data: list[Json]) -> None:
    if "truncate_prompt_tokens" in request:
        data[-1]["embedding"] = data[-1]["embedding"][:-1]


def _shuffle(request: Json, data: list[Json]) -> None:
    if request["input"] == list(QUESTIONS.guide_texts):
        data[0]["embedding"], data[2]["embedding"] = data[2]["embedding"], data[0]["embedding"]


def _drift_in_batches(request: Json, data: list[Json]) -> None:
    if len(request["input"]) == 3:
        for entry in data:
            entry["embedding"][0] += 0.2
            norm = math.hypot(*entry["embedding"])
            entry["embedding"] = [one / norm for one in entry["embedding"]]


def _hardly_differ(request: Json, data: list[Json]) -> None:
    for entry in data:
        vector = [1.0, *(one / 10 for one in entry["embedding"])]
        entry["embedding"] = [one / math.hypot(*vector) for one in vector]


def _alike(request: Json, data: list[Json]) -> None:
    for entry in data:
        entry["embedding"] = [1.0, 0.0]


def _renumber(request: Json, data: list[Json]) -> None:
    for entry in data:
        entry["index"] = 0


def _garble_base64(request: Json, body: Json) -> None:
    if isinstance(body["data"][0].get("embedding"), str):
        for entry in body["data"]:
            entry["embedding"] = entry["embedding"][::-1].replace("=", "")


def _nan_scores(request: Json, body: Json) -> None:
    for entry in body["data"]:
        if "score" in entry:
            entry["score"] = None


def _ignore_top_n(request: Json, body: Json) -> None:
    if request["top_n"] == 1:
        body["results"] *= 2


def _other_scores(request: Json, body: Json) -> None:
    for entry in body["results"]:
        entry["relevance_score"] /= 2


def _drop_document_text(request: Json, body: Json) -> None:
    for entry in body["results"]:
        entry["document"]["text"] = "x"


def _two_labels(request: Json, body: Json) -> None:
    if "num_classes" in body["data"][0]:
        body["data"][0]["num_classes"] = 2


def _without(key: str) -> Callable[[list[str]], list[str]]:
    def change(events: list[str]) -> list[str]:
        return [event for event in events if event == "[DONE]" or not json.loads(event).get(key)]

    return change


def _without_finish_reason(events: list[str]) -> list[str]:
    return [event.replace('"finish_reason": "stop"', '"finish_reason": null') for event in events]


def _without_a_letter(events: list[str]) -> list[str]:
    return events[:2] + events[3:]


LLM: dict[str, tuple[Fault, set[str], str]] = {
    "another name": (rewriting(_serve_other_name, "data"), {"served_name"}, "the model name tiny-llm | other"),
    "another length": (rewriting(_serve_other_length, "data"), {"model_length"}, "max_model_len 2048 | 512"),
    "another name in answers": (rewriting(_name_other, "choices"), {"answer_names_model"}, "'other'"),
    "no usage": (rewriting(_without_usage, "choices"), {"usage"}, "None"),
    "usage that does not add up": (rewriting(_miscount, "choices"), {"usage"}, "add up"),
    "answers cut by max_tokens": (on_message(_to_length, _is_text), STOPPING, "finish_reason stop | length"),
    "special tokens in the text": (
        on_message(_leak, _is_text),
        ALL_CHAT | {"stream_equals_blocking"},
        "<|im_end|>",
    ),
    "wrong answers": (
        on_message(_say_something_else, _is_text),
        ALL_CHAT | {"stream_equals_blocking"},
        "Berlin",
    ),
    "a tool call as text": (
        on_message(_tool_call_as_text, _is_tool_call),
        CALLS,
        "no tool call but the text",
    ),
    "a tool call with wrong arguments": (
        on_message(_wrong_city, _is_tool_call),
        CALLS,
        "Berlin",
    ),
    "tool arguments that are not JSON": (
        on_message(_no_json, _is_tool_call),
        CALLS,
        "arguments of get_current_weather that are JSON",
    ),
    "a tool call that ends with stop": (
        on_message(_stop, _is_tool_call),
        CALLS,
        "finish_reason tool_calls | stop",
    ),
    "any model accepted": (_accept_any_model, {"unknown_model_refused"}, "HTTP 200"),
    "a stream without [DONE]": (on_stream(lambda events: events[:-1]), {"stream_completes"}, "ends with [DONE]"),
    "a stream without usage": (on_stream(_without("usage")), {"stream_completes"}, "usage"),
    "a stream without finish_reason": (on_stream(_without_finish_reason), {"stream_completes"}, "finish_reason"),
    "a stream that loses text": (on_stream(_without_a_letter), {"stream_equals_blocking"}, "the streamed text"),
}

EMBEDDING: dict[str, tuple[Fault, set[str], str]] = {
    "null in some vectors": (on_vectors(_null_in_long_texts), {"vectors_finite"}, "bfloat16"),
    "NaN in all vectors": (on_vectors(_nan_everywhere), {"vectors_finite"}, "NaN"),
    "vectors that are not normalised": (on_vectors(_longer), {"vectors_unit_norm"}, "length 2"),
    "another dimension for some": (on_vectors(_cut_some), {"vectors_dimension"}, "63, 64"),
    "batches out of order": (
        on_vectors(_shuffle),
        {"keeps_order", "embeds_in_base64"},
        "place",
    ),
    "batches with other vectors": (
        on_vectors(_drift_in_batches),
        {"batch_equals_single", "embeds_in_base64"},
        "cosine",
    ),
    "vectors that hardly differ": (
        on_vectors(_hardly_differ),
        ALL_CLOSER | {"embeds_in_base64"},
        "by 0.05 at least",
    ),
    "the same vector for all": (
        on_vectors(_alike),
        ALL_CLOSER | {"embeds_in_base64"},
        "another model",
    ),
    "base64 of something else": (rewriting(_garble_base64, "data"), {"embeds_in_base64"}, "base64"),
}

RERANK: dict[str, tuple[Fault, set[str], str]] = {
    "null scores": (
        rewriting(_nan_scores, "data"),
        {"score_single", "score_batch", "rerank_equals_score"},
        "finite",
    ),
    "top_n ignored": (
        lambda path, request, answer: (
            rewriting(_ignore_top_n, "results")(path, request, answer) if "top_n" in request else answer
        ),
        {"rerank_top_n"},
        "1 results",
    ),
    "other scores on /rerank": (rewriting(_other_scores, "results"), {"rerank_equals_score"}, "as /score does"),
    "documents that are not ours": (rewriting(_drop_document_text, "results"), ALL_RANKS, "with its text"),
    "an ordinary classifier": (rewriting(_two_labels, "data"), {"kind"}, "2 labels"),
}


@pytest.mark.parametrize("name", LLM)
def test_a_language_model_with_one_fault_fails_the_check_for_it(name: str) -> None:
    fault, checks, words = LLM[name]
    _judge(verified("llm", fault, max_model_len=2048), checks, words)


@pytest.mark.parametrize("name", EMBEDDING)
def test_an_embedding_server_with_one_fault_fails_the_check_for_it(name: str) -> None:
    fault, checks, words = EMBEDDING[name]
    _judge(verified("embedding", fault), checks, words)


@pytest.mark.parametrize("name", RERANK)
def test_a_reranker_with_one_fault_fails_the_check_for_it(name: str) -> None:
    fault, checks, words = RERANK[name]
    _judge(verified("rerank", fault), checks, words)


def _judge(result: ServerResult, checks: set[str], words: str) -> None:
    found = failed(result)
    assert set(found) == checks
    assert any(words in text for text in found.values()), found


def test_a_reranker_that_prefers_the_worst_fails_every_ranking() -> None:
    result = verified("rerank", rescore=lambda score: 1 - score)
    _judge(result, {"score_batch"} | ALL_RANKS, "another model is behind the name")


def test_a_reranker_without_an_opinion_fails_every_ranking() -> None:
    _judge(verified("rerank", rescore=lambda score: 0.5), {"score_batch"} | ALL_RANKS, "0.5, 0.5")


def test_a_reranker_that_is_right_by_chance_fails_every_ranking() -> None:
    """As untrained weights do: an order there is, but the scores differ in the fourth digit."""
    result = verified("rerank", rescore=lambda score: 0.12 + score / 1000)
    _judge(result, {"score_batch"} | ALL_RANKS, "0.05 above the last")


@pytest.mark.parametrize(
    ("declared", "really"), [(one, other) for one in KINDS for other in KINDS if one != other], ids=str
)
def test_a_server_of_another_kind_is_recognised(declared: str, really: str) -> None:
    found = failed(verified(declared, really=really))
    assert set(found) == {"kind"}
    assert f"a server of kind {declared}" in found["kind"]


def test_vectors_numbered_wrongly_are_no_answer() -> None:
    found = failed(verified("embedding", on_vectors(_renumber)))
    assert "embeds_guide_texts" in found
    assert "index 0, 1" in found["embeds_guide_texts"]


def test_a_wrong_key_is_named_as_the_cause_and_not_shown() -> None:
    with serving("llm", api_key="right-key") as endpoint:
        result = verify_server(replace(endpoint, api_key="wrong-key"), QUESTIONS, 10)
    assert set(failed(result)) == {"reachable"}
    assert "API key" in failed(result)["reachable"]
    assert "wrong-key" not in repr(result)


def test_a_refused_connection_is_one_failure_that_names_server_host_and_url() -> None:
    with serving("rerank") as endpoint:
        pass
    result = verify_server(endpoint, QUESTIONS, 10)
    found = failed(result)
    assert set(found) == {"reachable"}
    assert f"connection refused: GET {endpoint.base_url}/v1/models (rerank on stub-host)" in found["reachable"]
    assert "systemctl status vllm-rerank.service" in found["reachable"]
    assert not result.answering
    assert result.count(Status.NOT_RUN) == len(result.outcomes) - 1


def test_a_frozen_engine_behind_a_live_server_is_a_failure_in_time() -> None:
    def freeze(path: str, request: Json, answer: Answer) -> Answer:
        if request:
            time.sleep(1)
        return answer

    found = failed(verified("llm", freeze, timeout=0.2))
    assert set(found) == {"kind"}
    assert "no answer within 0.2 s" in found["kind"]
    assert "frozen" in found["kind"]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Answer({"object": "error", "message": "engine died"}), "HTTP 200 with an error in its body"),
        (Answer(raw=b"<html>log in</html>"), "<html>log in</html>"),
        (Answer(raw=b""), "an empty body"),
        (Answer([]), "a JSON object"),
        (Answer({"choices": []}), "chat.completion"),
        (Answer({"error": {"message": "EngineCore died"}}, status=500), "HTTP 500"),
        (Answer({}, status=302), "redirects"),
    ],
    ids=["200 with an error", "HTML", "nothing", "a list", "no choice", "500", "a redirect"],
)
def test_an_answer_that_is_none_is_a_failure_and_no_traceback(answer: Answer, words: str) -> None:
    found = failed(verified("llm", lambda path, request, right: answer if request else right))
    assert set(found) == {"kind"}
    assert words in found["kind"]


def test_a_server_without_tool_calls_is_not_asked_for_them() -> None:
    result = verified("llm", tool_calls=False)
    assert {one.check for one in result.outcomes if one.status is Status.NOT_RUN} == TOOL_CALLS
    assert failed(result) == {}
