"""Checks of answers that are bound to a JSON schema."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vllm_fleet.verify import shapes
from vllm_fleet.verify.checks.common import CHAT, require_refusal
from vllm_fleet.verify.client import Client
from vllm_fleet.verify.endpoint import Endpoint
from vllm_fleet.verify.outcome import Wrong, excerpt
from vllm_fleet.verify.questions import Questions
from vllm_fleet.verify.registry import check

# The only text that the schema allows, and nobody's own answer to the question.
ONLY = "vllm-fleet"


@check("llm", title="writes nothing but what the JSON schema allows")
def schema_binds(client: Client, endpoint: Endpoint, questions: Questions) -> None:
    """Whether or not the model would have written JSON by itself."""
    reply = shapes.reply(client.post(CHAT, _bound({"type": "string", "enum": [ONLY]})))
    if reply.text.strip() != f'"{ONLY}"' or reply.finish_reason != "stop":
        raise Wrong(
            f'the text "{ONLY}", the only one that the schema allows, and finish_reason stop',
            f"{excerpt(reply.text)!r} and {reply.finish_reason} from {client.where('POST', CHAT)}",
            "something between drops `response_format`, or the server's structured output is switched off",
        )


@check("llm", title="refuses a malformed JSON schema and goes on")
def bad_schema_refused(client: Client, endpoint: Endpoint, questions: Questions) -> None:
    """In some versions of vLLM one malformed schema ended the engine for everybody."""
    require_refusal(
        client,
        CHAT,
        _bound({"type": "no-such-type"}),
        "HTTP 400 and an error about the schema",
        "something between drops `response_format`; or a vLLM version that does not check schemas",
    )


def _bound(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    return {
        "messages": [{"role": "user", "content": "ping"}],
        "temperature": 0,
        "max_tokens": 32,
        "response_format": {"type": "json_schema", "json_schema": {"name": "word", "schema": schema}},
    }
