"""Checks of a gateway: what it serves, where, and in what form it says no. gateway_doors.py tries what must be shut."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vllm_fleet.verify import hints
from vllm_fleet.verify.checks.common import MAX_TOKENS, MODELS, PING, served_models
from vllm_fleet.verify.checks.refusals import NO_SUCH_MODEL
from vllm_fleet.verify.client import Client
from vllm_fleet.verify.endpoint import GATEWAY, Endpoint, Served
from vllm_fleet.verify.outcome import Wrong
from vllm_fleet.verify.questions import Questions
from vllm_fleet.verify.raw import RawAnswer
from vllm_fleet.verify.registry import check

_RERANK: Mapping[str, Any] = PING["rerank"][1]
_SCORE: Mapping[str, Any] = {"text_1": "ping", "text_2": ["ping", "pong"]}
# What clients may ask, by the kind of server that answers. Written down once more, not taken from the gateway's list:
# a path that stands there by mistake is to be noticed.
REQUESTS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "llm": {
        "/v1/chat/completions": PING["llm"][1],
        "/v1/completions": {"prompt": "ping", "max_tokens": MAX_TOKENS},
        "/v1/responses": {"input": "ping", "max_output_tokens": MAX_TOKENS},
    },
    "embedding": {"/v1/embeddings": PING["embedding"][1]},
    "rerank": {
        "/rerank": _RERANK,
        "/v1/rerank": _RERANK,
        "/v2/rerank": _RERANK,
        "/score": _SCORE,
        "/v1/score": _SCORE,
    },
}
# More than a gateway looks at by the way: some 126 KiB.
_LONG_BYTES = 200_000
_FIELDS = ("message", "type", "param", "code", "request_id")
_AGAIN = "the gateway runs with a former list of servers: run playbooks/gateway.yml with all hosts"


@check(GATEWAY, title="lists every model with its maximum length")
def models_listed(client: Client, endpoint: Endpoint, questions: Questions) -> None:
    """A client that looks around finds all that it may use, and nothing that is not there."""
    listed = {str(one["id"]): one.get("max_model_len") for one in served_models(client)}
    declared = {one.model: one.max_model_len for one in endpoint.served}
    if set(listed) != set(declared):
        raise Wrong(
            f"the models {', '.join(sorted(declared))}",
            f"{', '.join(sorted(listed)) or 'none'} at {client.where('GET', MODELS)}",
            _AGAIN,
        )
    for model, length in declared.items():
        if length is not None and listed[model] != length:
            raise Wrong(
                f"max_model_len {length} of {model}", f"{listed[model]} at {client.where('GET', MODELS)}", _AGAIN
            )


@check(GATEWAY, title="answers on every path for the kinds of server there are, each from the right model")
def routes_answer(client: Client, endpoint: Endpoint, questions: Questions) -> None:
    """Shared paths and those of each server, with /v1 and in the original guide's form without it."""
    for server in endpoint.served:
        for path, body in REQUESTS[server.kind].items():
            for target in (path, f"{server.path}{path}"):
                name = client.post(target, {**body, "model": server.model}).get("model")
                if name != server.model:
                    raise Wrong(
                        f"an answer of the model {server.model}",
                        f"model {name!r} from {client.where('POST', target)}",
                        "requests are led to another server than the one that serves the model they name",
                    )


@check(GATEWAY, title="finds the model of a long request, which is named behind its text")
def long_requests_answer(client: Client, endpoint: Endpoint, questions: Questions) -> None:
    """Images and long chats: clients such as OpenAI's write what they ask before the model that they ask."""
    for server in endpoint.served:
        path, body = PING[server.kind]
        # vLLM passes over a field that it does not know.
        answer = client.raw("POST", path, {"vllm_fleet_padding": "x" * _LONG_BYTES, **body, "model": server.model})
        if answer.status != 200 or f'"{server.model}"' not in answer.text:
            raise Wrong(
                f"HTTP 200 from the model {server.model}, named behind {_LONG_BYTES // 1000} kB of the body",
                f"HTTP {answer.status} from {client.where('POST', path)}: {client.excerpt(answer.text)}",
                cause(
                    endpoint,
                    answer,
                    "vllm-gateway-lookup.service does not run, or a proxy before it limits bodies",
                ),
            )


@check(GATEWAY, title="refuses a model that is not there, and names those that are")
def unknown_model_named(client: Client, endpoint: Endpoint, questions: Questions) -> None:
    """Whoever mistypes a name sees the right one."""
    for kind, models in models_of_kinds(endpoint).items():
        path, body = PING[kind]
        answer = client.raw("POST", path, {**body, "model": NO_SUCH_MODEL})
        missing = [model for model in models if model not in answer.text]
        if answer.status != 404 or "error" not in answer.text or missing:
            raise Wrong(
                f"HTTP 404 and an error that names {', '.join(models)}, for the model {NO_SUCH_MODEL}",
                f"HTTP {answer.status} from {client.where('POST', path)}: {client.excerpt(answer.text)}",
                cause(
                    endpoint, answer, "something else answers there, or the gateway's list of models is a former one"
                ),
            )


@check(GATEWAY, title="says no in OpenAI's form, each time with a request id of its own")
def errors_have_one_form(client: Client, endpoint: Endpoint, questions: Questions) -> None:
    """Clients show the message of this form, and by the id a request is found in the gateway's log and in vLLM's."""
    seen: set[str] = set()
    for what, status, method, target, answer in _refusals(client, endpoint):
        if answer.status != status:
            raise Wrong(
                f"HTTP {status} {what}",
                f"HTTP {answer.status} from {client.where(method, target)}: {client.excerpt(answer.text)}",
                cause(endpoint, answer, "something else than the gateway answers there"),
            )
        problem = _problem_of(answer)
        request_id = answer.headers.get("x-request-id", "")
        problem = problem or (f"the id of an earlier request, {request_id}" if request_id in seen else "")
        if problem:
            raise Wrong(
                f"HTTP {status} with an error of {', '.join(_FIELDS)}, {what}",
                f"{problem} from {client.where(method, target)}: {client.excerpt(answer.text)}",
                "a proxy before the gateway puts its own pages in place of errors, or haproxy.cfg was changed by hand",
            )
        seen.add(request_id)
    answer = client.raw("GET", MODELS)
    if not answer.headers.get("x-request-id"):
        raise Wrong(
            "a header x-request-id in every answer",
            f"none from {client.where('GET', MODELS)}",
            "a proxy before the gateway takes headers out of its answers",
        )


def cause(endpoint: Endpoint, answer: RawAnswer, usually: str) -> str:
    """`usually`, unless the status says that a limit was met or nothing was there to answer."""
    return hints.of_status(endpoint, answer.status) if answer.status in (429, 500, 502, 503, 504) else usually


def models_of_kinds(endpoint: Endpoint) -> dict[str, list[str]]:
    """The models behind a gateway by their kinds."""
    kinds = dict.fromkeys(one.kind for one in endpoint.served)
    return {kind: [one.model for one in endpoint.served if one.kind == kind] for kind in kinds}


def ping_of(server: Served) -> tuple[str, Mapping[str, Any]]:
    """A shared path and a whole request that `server` answers there."""
    path, body = PING[server.kind]
    return path, {**body, "model": server.model}


def _refusals(client: Client, endpoint: Endpoint) -> Iterator[tuple[str, int, str, str, RawAnswer]]:
    """What is refused, with which status; the request, and its answer."""
    path, body = ping_of(endpoint.served[0])
    unknown = "/vllm-fleet-no-such-path"
    if endpoint.api_key:
        yield "without a key", 401, "POST", path, client.raw("POST", path, body, {"Authorization": None})
    yield "on a path that is not there", 404, "GET", unknown, client.raw("GET", unknown)
    other = {**body, "model": NO_SUCH_MODEL}
    yield f"for the model {NO_SUCH_MODEL}", 404, "POST", path, client.raw("POST", path, other)
    chunked = {"Transfer-Encoding": "chunked"}
    yield "for a body of unknown length", 411, "POST", path, client.raw("POST", path, body, chunked)


def _problem_of(answer: RawAnswer) -> str:
    """What is wrong with the form of an error, if anything."""
    try:
        error = json.loads(answer.text)["error"]
        fields = {key: error[key] for key in _FIELDS}
    except (ValueError, KeyError, TypeError):
        return "another form"
    texts: Sequence[Any] = [value for key, value in fields.items() if key != "param"]
    if not all(isinstance(text, str) and text for text in texts):
        return "a message, type, code or request_id that is empty or no text"
    if fields["request_id"] != answer.headers.get("x-request-id"):
        return f"another id in the header x-request-id, {answer.headers.get('x-request-id')}"
    return ""
