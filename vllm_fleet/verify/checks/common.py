"""Checks for every kind of server: is it there, is it the declared one, does it say what it is and what it used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vllm_fleet.verify import shapes
from vllm_fleet.verify.client import Client
from vllm_fleet.verify.endpoint import GATEWAY, KINDS, Endpoint
from vllm_fleet.verify.outcome import Wrong, excerpt
from vllm_fleet.verify.questions import Questions
from vllm_fleet.verify.registry import check

MODELS = "/v1/models"
CHAT = "/v1/chat/completions"
EMBEDDINGS = "/v1/embeddings"
SCORE = "/score"
RERANK = "/rerank"
CLASSIFY = "/classify"

MAX_TOKENS = 5
# What Dify sends before it accepts a model of that kind.
PING: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "llm": (CHAT, {"messages": [{"role": "user", "content": "ping"}], "max_tokens": MAX_TOKENS}),
    "embedding": (EMBEDDINGS, {"input": ["ping"]}),
    "rerank": (RERANK, {"query": "ping", "documents": ["ping", "pong"], "top_n": 2}),
}
_PING_OF_PATH = dict(PING.values())


def served_models(client: Client) -> list[Mapping[str, Any]]:
    """The entries of /v1/models."""
    answer = client.get(MODELS)
    models = answer.get("data")
    if not isinstance(models, list) or not all(isinstance(one, dict) and "id" in one for one in models):
        raise shapes.wrong_shape("a list of models", answer)
    return models


def served_length(client: Client, endpoint: Endpoint) -> int:
    """The maximum length that /v1/models tells, in tokens."""
    model = next((one for one in served_models(client) if one["id"] == endpoint.model), {})
    length = model.get("max_model_len")
    if not isinstance(length, int) or length <= 0:
        raise shapes.wrong_shape("a model with max_model_len", model)
    return length


@check(*KINDS, GATEWAY, title="answers GET /v1/models", decisive=True)
def reachable(client: Client, endpoint: Endpoint, questions: Questions) -> None:
    """The port is open, its certificate fits, the key is right and something like vLLM answers."""
    served_models(client)


@check(title="serves the declared model name", decisive=True)
def served_name(client: Client, endpoint: Endpoint, questions: Questions) -> None:
    """Clients such as Dify know a model by this name, and keep their caches by it."""
    names = [str(one["id"]) for one in served_models(client)]
    if endpoint.model not in names:
        raise Wrong(
            f"the model name {endpoint.model}",
            f"{', '.join(names) or 'none'} at {client.where('GET', MODELS)}",
            "another server listens on this port, or the unit was not restarted after served_model_name was changed",
        )


@check(title="is the declared kind of server", decisive=True)
def kind(client: Client, endpoint: Endpoint, questions: Questions) -> None:
    """Only a language model chats, only an encoder embeds; /rerank proves nothing, an encoder answers it as well."""
    path, body = PING[endpoint.kind]
    if endpoint.kind == "rerank":
        path, body = CLASSIFY, {"input": ["ping"]}
    try:
        _PROOFS[endpoint.kind](client.post(path, body))
    except Wrong as wrong:
        if "HTTP 404" not in wrong.got and "HTTP 400" not in wrong.got:
            raise
        raise Wrong(
            f"a server of kind {endpoint.kind}, which answers {path}",
            wrong.got,
            "a model of another kind is served there: compare `model` and `port` with the other servers' declarations",
        ) from None


def _is_chat(answer: Mapping[str, Any]) -> None:
    shapes.reply(answer)


def _is_embedding(answer: Mapping[str, Any]) -> None:
    shapes.vectors(answer, 1)


def _is_reranker(answer: Mapping[str, Any]) -> None:
    """A reranker is a classifier with one label."""
    try:
        labels = answer["data"][0]["num_classes"]
    except (KeyError, IndexError, TypeError):
        raise shapes.wrong_shape("a classification with data[0].num_classes", answer) from None
    if labels != 1:
        raise Wrong(
            "a reranker, that is a classifier with one label",
            f"{labels!r} labels",
            "an ordinary classifier is served; /score and /rerank need a cross-encoder",
        )


_PROOFS = {"llm": _is_chat, "embedding": _is_embedding, "rerank": _is_reranker}


@check(title="has the declared maximum length")
def model_length(client: Client, endpoint: Endpoint, questions: Questions) -> None:
    """Dify's context size must be this; a longer one fails only when a long document comes."""
    length = served_length(client, endpoint)
    if endpoint.max_model_len not in (None, length):
        raise Wrong(
            f"max_model_len {endpoint.max_model_len}",
            f"{length} at {client.where('GET', MODELS)}",
            f"the unit runs with former flags: `systemctl restart {endpoint.unit}` on {endpoint.host}",
        )


@check(title="names the declared model in its answers")
def answer_names_model(client: Client, endpoint: Endpoint, questions: Questions) -> None:
    """The name in an answer is what clients write into logs and bills."""
    path, body = PING[endpoint.kind]
    name = client.post(path, body).get("model")
    if name != endpoint.model:
        raise Wrong(
            f"answers of model {endpoint.model}",
            f"model {name!r} from {client.where('POST', path)}",
            "something between maps the name to another model",
        )


@check(title="counts the tokens it used")
def usage(client: Client, endpoint: Endpoint, questions: Questions) -> None:
    """Present, and the parts make the whole."""
    path, body = PING[endpoint.kind]
    answer = client.post(path, body)
    judge_usage(answer, endpoint.kind == "llm", MAX_TOKENS)


def judge_usage(answer: Mapping[str, Any], generates: bool, max_tokens: int) -> None:
    """Require a consistent `usage` in an answer, or in the closing event of a streamed one."""
    counts = shapes.usage(answer, ("prompt_tokens", *(("completion_tokens",) if generates else ()), "total_tokens"))
    completion = counts.get("completion_tokens", 0)
    if (
        counts["prompt_tokens"] < 1
        or counts["total_tokens"] != counts["prompt_tokens"] + completion
        or not int(generates) <= completion <= max_tokens * generates
    ):
        raise Wrong(
            "tokens of prompt and answer that add up" + (f", at most {max_tokens} in the answer" if generates else ""),
            excerpt(counts),
            "something between rewrites answers, or another vLLM version than the pinned one",
        )


def require_refusal(
    client: Client,
    path: str,
    body: Mapping[str, Any],
    expected: str,
    usually: str,
    statuses: Sequence[int] = (400,),
    containing: str = "",
) -> None:
    """Require that a request is refused with one of `statuses` and an error text, and that the server still answers."""
    answer = client.try_post(path, body)
    if answer.status not in statuses or "error" not in answer.text or containing not in answer.text:
        raise Wrong(
            expected, f"HTTP {answer.status} from {client.where('POST', path)}: {client.excerpt(answer.text)}", usually
        )
    try:
        client.post(path, _PING_OF_PATH[path])
    except Wrong as wrong:
        raise Wrong(
            f"{expected}, and answers after it",
            f"{wrong.got}, right after the refused request",
            "one bad request ends the engine for everybody: a vLLM version with a known defect",
        ) from None
