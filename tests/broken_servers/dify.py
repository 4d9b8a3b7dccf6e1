"""Servers that are wrong in a way that only Dify minds."""

from __future__ import annotations

import itertools
import json

from tests.broken_servers.broken import Broken, on_stream, rewriting
from tests.broken_servers.stub import Answer, Json, error


def _other_line_ends(path: str, request: Json, answer: Answer) -> Answer:
    if answer.events is None:
        return answer
    return Answer(raw="".join(f"data: {event}\r\n\r\n" for event in answer.events).encode())


def _refuse_user(path: str, request: Json, answer: Answer) -> Answer:
    return error(400, "Unsupported parameter: 'user'") if "user" in request else answer


def _an_id_for_each_part(events: list[str]) -> list[str]:
    numbers = itertools.count()
    changed = []
    for event in events[:-1]:
        chunk = json.loads(event)
        for choice in chunk["choices"]:
            for part in choice["delta"].get("tool_calls") or ():
                part["id"] = f"tool-{next(numbers)}"
        changed.append(json.dumps(chunk))
    return [*changed, events[-1]]


def _want_lists(path: str, request: Json, answer: Answer) -> Answer:
    return error(400, "input must be a list") if isinstance(request.get("input"), str) else answer


def _lose_one_of_three(request: Json, body: Json) -> None:
    if request.get("top_n") == 3:
        del body["results"][2:]


BROKEN = [
    Broken(
        id="stream_with_other_line_ends",
        wrong="a proxy rewrites the line ends of streams, which Dify takes apart at \\n\\n",
        kind="llm",
        fails=("dify_reads_stream", "dify_reads_tool_calls"),
        message="Non-JSON encountered",
        fault=_other_line_ends,
    ),
    Broken(
        id="user_refused",
        wrong="a proxy refuses the parameter user, which Dify sends",
        kind="llm",
        fails=("dify_reads_stream",),
        message="fewer parameters than vLLM",
        fault=_refuse_user,
    ),
    Broken(
        id="streamed_calls_with_many_ids",
        wrong="each part of a streamed tool call has an id of its own, so that Dify takes it for a call",
        kind="llm",
        fails=("dify_reads_tool_calls",),
        message="by their ids",
        fault=on_stream(_an_id_for_each_part, tools=True),
    ),
    Broken(
        id="bare_text_refused",
        wrong="a text is embedded only in a list",
        kind="embedding",
        fails=("dify_tries_embedding",),
        message="input must be a list",
        fault=_want_lists,
    ),
    Broken(
        id="loses_one_of_three",
        wrong="asked for all of three documents, two are ranked",
        kind="rerank",
        fails=("dify_tries_rerank",),
        message="3 results",
        fault=rewriting(_lose_one_of_three, "results"),
    ),
]
