"""Checks of Dify's own requests, and of what its plugin OpenAI-API-compatible makes of the answers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vllm_fleet.verify import shapes
from vllm_fleet.verify.checks.common import CHAT, EMBEDDINGS, RERANK
from vllm_fleet.verify.checks.rerank import V1_RERANK
from vllm_fleet.verify.client import DONE, Client, Stream
from vllm_fleet.verify.endpoint import Endpoint
from vllm_fleet.verify.outcome import NotRun, Wrong, excerpt
from vllm_fleet.verify.questions import Questions
from vllm_fleet.verify.registry import check

# stream_mode_delimiter as it is entered in Dify.
DELIMITER = "\n\n"
# All that Dify sends of what a user can set, and the user.
SETTINGS: Mapping[str, Any] = {
    "temperature": 0.7,
    "top_p": 1,
    "frequency_penalty": 0,
    "presence_penalty": 0,
    "max_tokens": 64,
    "user": "vllm-fleet-verification",
    "stop": ["\n\n\n"],
}
CAPITALS = (
    "Carson City is the capital of the state of Nevada.",
    "Saipan is the capital of the Northern Mariana Islands.",
    "Washington, D.C. is the capital of the United States.",
)
CAPITAL_QUESTION = "What is the capital of the United States?"


@check("llm", title="streams so that Dify can read it, with all that Dify sends")
def dify_reads_stream(client: Client, endpoint: Endpoint, questions: Questions) -> None:
    """Dify takes a stream apart at empty lines of its own spelling, and stops at what is no JSON then."""
    _events(client, {"messages": [{"role": "user", "content": "ping"}], **SETTINGS})


@check("llm", title="streams tool calls so that Dify can put them together")
def dify_reads_tool_calls(client: Client, endpoint: Endpoint, questions: Questions) -> None:
    """By the id, where others go by the index: the first part of a call has one, the others none or the same."""
    if not endpoint.tool_calls:
        raise NotRun("no tool_call_parser is declared for this server")
    for question in questions.tools:
        if question.skip:
            continue
        body = {"messages": question.messages, "tools": question.tools, "tool_choice": "auto", **question.request}
        chunks = _events(client, body)
        found = _put_together(chunks)
        right = shapes.streamed_reply(Stream(tuple(chunks), (), done=True)).tool_calls
        if found != [(call.name, call.arguments) for call in right]:
            raise Wrong(
                f"{len(right)} calls by their ids, as by their indexes: {excerpt(str([call.name for call in right]))}",
                f"{len(found)} calls, {excerpt(str(found))}, from the stream of {client.where('POST', CHAT)}",
                "each part of a call has an id of its own, or two calls share one: a vLLM version with a known defect, "
                "or a proxy that rewrites",
            )


@check("embedding", title="embeds a bare text, as Dify's plugins try a server")
def dify_tries_embedding(client: Client, endpoint: Endpoint, questions: Questions) -> None:
    """Not in a list, and with the encoding named."""
    shapes.vectors(client.post(EMBEDDINGS, {"input": "ping", "encoding_format": "float"}), 1)


@check("rerank", title="ranks the documents with which Dify tries a server, with /v1 and in the guide's form")
def dify_tries_rerank(client: Client, endpoint: Endpoint, questions: Questions) -> None:
    """As many asked for as given; Dify reads index and relevance_score of each."""
    body = {"query": CAPITAL_QUESTION, "documents": CAPITALS, "top_n": len(CAPITALS)}
    for path in (V1_RERANK, RERANK):
        answer = client.post(path, body)
        places = sorted(index for index, _, _ in shapes.ranking(answer, len(CAPITALS)))
        if places != list(range(len(CAPITALS))):
            raise Wrong(
                f"documents 0 to {len(CAPITALS) - 1}, each once",
                f"documents {places} from {client.where('POST', path)}",
                "something between rewrites answers",
            )


def _events(client: Client, body: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The events of a stream, taken apart as Dify does."""
    answer = client.try_post(CHAT, {**body, "stream": True, "stream_options": {"include_usage": True}})
    where = client.where("POST", CHAT)
    if answer.status != 200:
        raise Wrong(
            f"HTTP 200 for a question with {', '.join(body)}",
            f"HTTP {answer.status} from {where}: {client.excerpt(answer.text)}",
            "something between allows fewer parameters than vLLM does",
        )
    pieces = [one.strip() for one in answer.text.split(DELIMITER) if one.strip() and not one.startswith(":")]
    texts = [one.removeprefix("data:").lstrip() for one in pieces]
    return [_event(client, one, where) for one in texts if one != DONE]


def _event(client: Client, text: str, where: str) -> Mapping[str, Any]:
    try:
        event = json.loads(text)
    except ValueError:
        event = None
    if not isinstance(event, dict):
        raise Wrong(
            "a stream whose events stand between empty lines (\\n\\n), each one JSON object",
            f"{client.excerpt(text)} from {where}",
            "a proxy that rewrites line ends or joins events; Dify shows `Non-JSON encountered`",
        )
    return event


def _put_together(chunks: Iterable[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Names and arguments of the streamed calls, put together by id; a part without id and name continues the last."""
    calls: dict[str, list[str]] = {}
    last = ""
    for number, part in enumerate(_parts(chunks)):
        function = part.get("function") or {}
        last = part.get("id") or (f"part {number}" if function.get("name") else last)
        call = calls.setdefault(last, ["", ""])
        call[0] = function.get("name") or call[0]
        call[1] += function.get("arguments") or ""
    return [(name, arguments) for name, arguments in calls.values()]


def _parts(chunks: Iterable[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    choices = [choice for chunk in chunks for choice in chunk.get("choices") or ()]
    return [part for choice in choices for part in choice.get("delta", {}).get("tool_calls") or ()]
