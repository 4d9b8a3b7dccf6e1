"""Servers that are wrong in a way that any kind can be."""

from __future__ import annotations

from dataclasses import replace

from tests.broken_servers.broken import Broken, on_model, rewriting, under_load
from tests.broken_servers.stub import MAX_MODEL_LEN, Answer, Fault, Json, error
from vllm_fleet.verify.endpoint import KINDS


def _to_requests(answer: Answer) -> Fault:
    return lambda path, request, right: answer if request else right


def _name_other(request: Json, body: Json) -> None:
    body["model"] = "other"


def _accept_any_model(path: str, request: Json, answer: Answer) -> Answer:
    return Answer({"object": "chat.completion"}) if "NotFoundError" in str(answer.body) else answer


def _ignore_key(path: str, request: Json, answer: Answer) -> Answer:
    return Answer({"object": "list", "data": []}) if answer.status == 401 else answer


def _say_no_limit(path: str, request: Json, answer: Answer) -> Answer:
    return error(400, "Bad Request") if "maximum context length" in str(answer.body) else answer


def _cut_silently(path: str, request: Json, answer: Answer) -> Answer:
    return Answer({"results": []}) if "maximum context length" in str(answer.body) else answer


def _die_on_malformed(path: str, request: Json, answer: Answer) -> Answer:
    return error(500, "Internal Server Error") if request.get("messages") == "ping" else answer


def _die_on_empty(path: str, request: Json, answer: Answer) -> Answer:
    return error(500, "list index out of range") if request.get("documents") == [] else answer


def _die_at_full_length(request: Json, body: Json) -> None:
    if body["usage"]["prompt_tokens"] == MAX_MODEL_LEN:
        body["data"][0]["embedding"] = [None] * len(body["data"][0]["embedding"])


def _count_less_at_full_length(request: Json, body: Json) -> None:
    if body["usage"]["prompt_tokens"] == MAX_MODEL_LEN:
        body["usage"]["prompt_tokens"] = body["usage"]["total_tokens"] = MAX_MODEL_LEN // 2


def _freeze(path: str, request: Json, answer: Answer) -> Answer:
    return replace(answer, pause=3) if request else answer


BROKEN = [
    Broken(
        id="log_in_page",
        wrong="a proxy's log-in page answers instead of the server",
        kind="llm",
        fails=("reachable",),
        message="<html>log in</html>",
        fault=lambda path, request, answer: Answer(raw=b"<html>log in</html>"),
    ),
    Broken(
        id="redirect",
        wrong="a proxy redirects instead of forwarding",
        kind="rerank",
        fails=("reachable",),
        message="redirects",
        fault=lambda path, request, answer: Answer({}, status=302),
    ),
    Broken(
        id="another_key",
        wrong="the server was started with another API key than the declared one",
        kind="llm",
        fails=("reachable",),
        message="API key",
        declared={"api_key": "key-of-last-year"},
    ),
    Broken(
        id="other_name",
        wrong="the model is served under another name",
        kind="embedding",
        fails=("served_name",),
        message="the model name tiny-embedding | other",
        fault=on_model(id="other"),
    ),
    Broken(
        id="other_length",
        wrong="max_model_len is not the declared one",
        kind="llm",
        fails=("model_length",),
        message=f"max_model_len {2 * MAX_MODEL_LEN} | {MAX_MODEL_LEN}",
        declared={"max_model_len": 2 * MAX_MODEL_LEN},
    ),
    *(
        Broken(
            id=f"{really}_as_{kind}",
            wrong=f"a server of kind {really} in the place of kind {kind}",
            kind=kind,
            fails=("kind",),
            message=f"a server of kind {kind}",
            really=really,
        )
        for kind in KINDS
        for really in KINDS
        if kind != really
    ),
    Broken(
        id="error_with_200",
        wrong="errors are sent with HTTP 200",
        kind="llm",
        fails=("kind",),
        message="HTTP 200 with an error in its body",
        fault=_to_requests(Answer({"object": "error", "message": "engine died"})),
    ),
    Broken(
        id="engine_dead",
        wrong="the engine died, and the API server stays and answers 500",
        kind="embedding",
        fails=("kind",),
        message="journalctl -u vllm-embedding.service",
        fault=_to_requests(error(500, "EngineCore encountered an issue", "InternalServerError")),
    ),
    Broken(
        id="engine_frozen",
        wrong="the engine is frozen: /v1/models answers, requests wait for minutes",
        kind="rerank",
        fails=("kind",),
        message="no answer within 1 s",
        fault=_freeze,
        timeout=1,
    ),
    Broken(
        id="other_name_in_answers",
        wrong="a proxy maps the name to another model",
        kind="rerank",
        fails=("answer_names_model",),
        message="'other'",
        fault=rewriting(_name_other, "model"),
    ),
    Broken(
        id="any_model_accepted",
        wrong="another model's name is accepted",
        kind="embedding",
        fails=("unknown_model_refused",),
        message="HTTP 200",
        fault=_accept_any_model,
    ),
    Broken(
        id="key_ignored",
        wrong="requests without the API key are answered",
        kind="llm",
        fails=("key_required",),
        message="HTTP 200 without a key",
        fault=_ignore_key,
    ),
    Broken(
        id="dies_on_malformed",
        wrong="a malformed request is an error of the server",
        kind="llm",
        fails=("malformed_refused",),
        message="HTTP 500",
        fault=_die_on_malformed,
    ),
    Broken(
        id="dies_on_no_documents",
        wrong="a search without a hit is an error of the server",
        kind="rerank",
        fails=("empty_input",),
        message="HTTP 500",
        fault=_die_on_empty,
    ),
    Broken(
        id="cuts_silently",
        wrong="over-long inputs are cut in silence",
        kind="rerank",
        fails=("over_long_refused",),
        message="cut in silence",
        fault=_cut_silently,
    ),
    Broken(
        id="refuses_without_limit",
        wrong="over-long inputs are refused without saying the limit",
        kind="embedding",
        fails=("over_long_refused",),
        message=f"the limit of {MAX_MODEL_LEN} tokens",
        fault=_say_no_limit,
    ),
    Broken(
        id="no_number_at_full_length",
        wrong="the longest inputs overflow float16, shorter ones do not",
        kind="embedding",
        fails=("full_length",),
        message="float16 overflows, or max_model_len is beyond the positions",
        fault=rewriting(_die_at_full_length, "usage", "data"),
    ),
    Broken(
        id="cuts_at_half_length",
        wrong="inputs are cut at half the maximum length",
        kind="rerank",
        fails=("full_length",),
        message=f"{MAX_MODEL_LEN // 2} tokens counted",
        fault=rewriting(_count_less_at_full_length, "usage", "results"),
    ),
    Broken(
        id="refuses_under_load",
        wrong="more than 10 requests at once are refused with 429",
        kind="embedding",
        fails=("texts_at_once",),
        message="HTTP 429",
        fault=under_load(10, lambda answer: error(429, "Too many requests")),
    ),
    Broken(
        id="slower_than_declared",
        wrong="it is right, but slower than the limit that the user declared",
        kind="rerank",
        fails=("rankings_at_once",),
        message="the declared limit of 0.01 for slowest_seconds",
        fault=under_load(1000, lambda answer: answer),
        limits={"slowest_seconds": 0.01},
    ),
]
