"""Checks of a language model's tool calls, as an agent needs them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from vllm_fleet.verify import shapes
from vllm_fleet.verify.checks.common import CHAT
from vllm_fleet.verify.client import Client
from vllm_fleet.verify.endpoint import Endpoint
from vllm_fleet.verify.outcome import NotRun, Wrong, excerpt
from vllm_fleet.verify.questions import ToolQuestion
from vllm_fleet.verify.registry import check_each


@check_each("llm", lambda questions: questions.tools, title="calls the tool of {}")
def calls_tool(client: Client, endpoint: Endpoint, question: ToolQuestion) -> None:
    """In one answer."""
    _require_tool_calls(endpoint)
    _judge(shapes.reply(client.post(CHAT, _request(question))), question, client.where("POST", CHAT))


@check_each("llm", lambda questions: questions.tools, title="calls the tool of {} in a stream")
def streams_tool_call(client: Client, endpoint: Endpoint, question: ToolQuestion) -> None:
    """In parts, as agents ask for it."""
    _require_tool_calls(endpoint)
    _judge(
        shapes.streamed_reply(client.stream(CHAT, _request(question))),
        question,
        f"the stream of {client.where('POST', CHAT)}",
    )


def _require_tool_calls(endpoint: Endpoint) -> None:
    if not endpoint.tool_calls:
        raise NotRun("no tool_call_parser is declared for this server")


def _request(question: ToolQuestion) -> Mapping[str, Any]:
    return {"messages": question.messages, "tools": question.tools, "tool_choice": "auto", **question.request}


def _judge(reply: shapes.Reply, question: ToolQuestion, where: str) -> None:
    wanted = [(call.tool, call.arguments) for call in question.calls]
    if not reply.tool_calls:
        raise Wrong(
            f"a call of {wanted[0][0]}",
            f"no tool call but the text {excerpt(reply.text)!r} from {where}",
            "tool_call_parser does not fit the model's way of writing calls, or its chat template ignores tools",
        )
    found = [(call.name, _arguments(call, where)) for call in reply.tool_calls]
    if found != wanted:
        raise Wrong(
            f"exactly {_listed(wanted)}",
            f"{_listed(found)} from {where}",
            "the parser lost or joined calls, the model is too small for tools, or another model is behind the name",
        )
    if reply.finish_reason != "tool_calls":
        raise Wrong(
            "finish_reason tool_calls",
            f"{reply.finish_reason} from {where}",
            "agents wait for it before they run the tool: a vLLM version with a known defect, or a proxy that rewrites",
        )


def _arguments(call: shapes.ToolCall, where: str) -> object:
    try:
        return json.loads(call.arguments)
    except (TypeError, ValueError):
        raise Wrong(
            f"arguments of {call.name} that are JSON",
            f"{excerpt(call.arguments)!r} from {where}",
            "the answer was cut by max_tokens, or the parser took the call apart wrongly",
        ) from None


def _listed(calls: Sequence[tuple[str, object]]) -> str:
    return " and ".join(f"{name} with {json.dumps(arguments, ensure_ascii=False)}" for name, arguments in calls)
