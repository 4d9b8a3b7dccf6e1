"""Checks of what a server must refuse, or at least survive."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vllm_fleet.verify.checks.common import CHAT, EMBEDDINGS, PING, RERANK, require_refusal
from vllm_fleet.verify.client import Client
from vllm_fleet.verify.endpoint import Endpoint
from vllm_fleet.verify.outcome import NotRun, Wrong
from vllm_fleet.verify.questions import Questions
from vllm_fleet.verify.registry import check

NO_SUCH_MODEL = "vllm-fleet-no-such-model"
WRONG_KEY = "vllm-fleet-wrong-key"
# Without anything in them, and of the wrong type.
EMPTY: Mapping[str, Sequence[tuple[str, Mapping[str, Any]]]] = {
    "llm": (
        (CHAT, {"messages": [], "max_tokens": 5}),
        (CHAT, {"messages": [{"role": "user", "content": ""}], "max_tokens": 5}),
    ),
    "embedding": ((EMBEDDINGS, {"input": []}), (EMBEDDINGS, {"input": [""]})),
    "rerank": ((RERANK, {"query": "ping", "documents": []}), (RERANK, {"query": "", "documents": [""]})),
}
MALFORMED: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "llm": (CHAT, {"messages": "ping"}),
    "embedding": (EMBEDDINGS, {"input": {"text": "ping"}}),
    "rerank": (RERANK, {"query": "ping"}),
}
_MODEL_NAME = "something between replaces the model's name, or it is not vLLM that answers"


@check(title="refuses a model it does not serve")
def unknown_model_refused(client: Client, endpoint: Endpoint, questions: Questions) -> None:
    """Otherwise a client with a wrong name gets another model's answers and never knows."""
    path, body = PING[endpoint.kind]
    require_refusal(
        client,
        path,
        {**body, "model": NO_SUCH_MODEL},
        f"HTTP 404 and an error for the model {NO_SUCH_MODEL}",
        _MODEL_NAME,
        statuses=(404,),
    )


@check(title="lets nobody in without the API key")
def key_required(client: Client, endpoint: Endpoint, questions: Questions) -> None:
    """Neither without one nor with another one. Asked under /v1: vLLM itself guards /score and /rerank by no key."""
    if not endpoint.api_key:
        raise NotRun("no API key is declared: whoever reaches the server can use it")
    path, body = PING[endpoint.kind]
    path = path if path.startswith("/v1") else f"/v1{path}"
    for key, what in (("", "without a key"), (WRONG_KEY, "with a wrong key")):
        answer = client.try_post(path, body, key)
        if answer.status not in (401, 403):
            raise Wrong(
                f"HTTP 401 {what}",
                f"HTTP {answer.status} {what} from {client.where('POST', path)}: {client.excerpt(answer.text)}",
                f"the unit was started before the key was declared: `systemctl restart {endpoint.unit}` on "
                f"{endpoint.host}; or a proxy adds the key for everybody",
            )


@check(title="refuses a malformed request and goes on")
def malformed_refused(client: Client, endpoint: Endpoint, questions: Questions) -> None:
    """With the reason, so that a client's mistake is found by its author."""
    path, body = MALFORMED[endpoint.kind]
    require_refusal(
        client,
        path,
        body,
        "HTTP 400 or 422 and an error that says what is wrong",
        "something between rewrites requests or answers; or another vLLM version than the pinned one",
        statuses=(400, 422),
    )


@check(title="answers or refuses an empty input, and goes on")
def empty_input(client: Client, endpoint: Endpoint, questions: Questions) -> None:
    """Empty chunks and searches without a hit are everyday; they must not end in an error of the server."""
    for path, body in EMPTY[endpoint.kind]:
        answer = client.try_post(path, body)
        if answer.status not in (200, 400, 422):
            raise Wrong(
                "HTTP 200, or 400 with a reason, for an empty input",
                f"HTTP {answer.status} from {client.where('POST', path)}: {client.excerpt(answer.text)}",
                f"a vLLM version with a known defect: `journalctl -u {endpoint.unit} -n 50` on {endpoint.host}",
            )
    client.post(*PING[endpoint.kind])
