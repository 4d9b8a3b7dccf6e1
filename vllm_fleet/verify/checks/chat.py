"""Checks of a language model's answers, blocking and streamed."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from vllm_fleet.verify import shapes
from vllm_fleet.verify.checks.common import CHAT, judge_usage
from vllm_fleet.verify.client import Client
from vllm_fleet.verify.endpoint import Endpoint
from vllm_fleet.verify.outcome import Wrong, excerpt
from vllm_fleet.verify.questions import ChatQuestion, Questions
from vllm_fleet.verify.registry import check, check_each

SPECIAL_TOKEN = re.compile(r"<\|[^|<>\s]{1,40}\|>|</?s>|<pad>|<unk>|</?tool_call>")
DEFAULT_MAX_TOKENS = 512
# Under load, batches of another size round differently, and a near tie may fall either way.
TRIES = 3
FEW_TOKENS = 3


@check_each("llm", lambda questions: questions.chat, title="answers {} rightly")
def answers(client: Client, endpoint: Endpoint, question: ChatQuestion) -> None:
    """The answer contains what it must, ended for a good reason, and shows nothing of the chat template."""
    reply = shapes.reply(client.post(CHAT, {"messages": question.messages, **question.request}))
    where = client.where("POST", CHAT)
    if question.json is not None:
        _judge_json(reply.text, question.json, where)
    elif not is_right(reply.text, question):
        raise Wrong(
            f"an answer with {' or '.join(map(repr, question.contains_any))} in it",
            f"{excerpt(reply.text) or 'an empty text'!r} from {where}",
            "another model is behind the name, a wrong chat template, or weights damaged on the way",
        )
    if leaked := SPECIAL_TOKEN.search(reply.text):
        raise Wrong(
            "a text without special tokens",
            f"{leaked.group()} in {excerpt(reply.text)!r} from {where}",
            "the chat template or the tokenizer's special tokens do not belong to this model",
        )
    if reply.finish_reason not in question.finish_reasons:
        raise Wrong(
            f"finish_reason {' or '.join(question.finish_reasons)}",
            f"{reply.finish_reason} after {excerpt(reply.text)!r} from {where}",
            "the end token is missing from generation_config.json, so that the model never stops by itself",
        )


def is_right(text: str, question: ChatQuestion) -> bool:
    """Whether an answer contains one of the texts it must."""
    return any(wanted.casefold() in text.casefold() for wanted in question.contains_any)


def _judge_json(text: str, wanted: Mapping[str, Any], where: str) -> None:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if found != wanted:
        raise Wrong(
            f"the JSON {json.dumps(wanted, ensure_ascii=False)}",
            f"{excerpt(text) or 'an empty text'!r} from {where}",
            "response_format is ignored by something between, or the answer was cut by max_tokens",
        )


@check("llm", title="ends a stream with a finish_reason, usage and [DONE]")
def stream_completes(client: Client, endpoint: Endpoint, questions: Questions) -> None:
    """A cut answer must not look like a whole one."""
    request = _reproducible(questions.reproducible_chat[0])
    stream = client.stream(CHAT, request)
    where = client.where("POST", CHAT)
    if not stream.done:
        raise Wrong(
            "a stream that ends with [DONE]",
            f"{len(stream.chunks)} events and then nothing from {where}",
            "the engine died during the answer, or a proxy cuts or buffers streams",
        )
    if shapes.streamed_reply(stream).finish_reason is None:
        raise Wrong(
            "a stream with a finish_reason before [DONE]",
            f"{len(stream.chunks)} events without one from {where}",
            f"the engine died during the answer: `journalctl -u {endpoint.unit} -n 50` on {endpoint.host}",
        )
    judge_usage(
        stream.chunks[-1] if stream.chunks else {},
        generates=True,
        max_tokens=int(request.get("max_tokens", DEFAULT_MAX_TOKENS)),
    )


@check("llm", title="streams the same texts as it answers at once")
def stream_equals_blocking(client: Client, endpoint: Endpoint, questions: Questions) -> None:
    """At temperature 0, every character: emoji and other scripts are where streams are taken apart wrongly."""
    for question in questions.reproducible_chat:
        request = _reproducible(question)
        for _ in range(TRIES):
            blocking = shapes.reply(client.post(CHAT, request)).text
            streamed = shapes.streamed_reply(client.stream(CHAT, request)).text
            if blocking == streamed:
                break
        else:
            raise Wrong(
                f"the streamed text {excerpt(blocking)!r}",
                f"{excerpt(streamed)!r} from {client.where('POST', CHAT)}",
                "a proxy that loses or reorders events; or replicas that serve different models under one name",
            )


@check("llm", title="answers the same twice at temperature 0")
def repeats_itself(client: Client, endpoint: Endpoint, questions: Questions) -> None:
    """What was tested today must be what is answered tomorrow."""
    request = _reproducible(questions.reproducible_chat[0])
    texts = [shapes.reply(client.post(CHAT, request)).text for _ in range(TRIES)]
    if len(set(texts)) == len(texts):
        raise Wrong(
            "the same answer twice",
            f"{' and '.join(repr(excerpt(text)) for text in texts[:2])} from {client.where('POST', CHAT)}",
            "something between drops `temperature`; or replicas serve different models under one name",
        )


@check("llm", title="stops at max_tokens, and says so")
def stops_at_max_tokens(client: Client, endpoint: Endpoint, questions: Questions) -> None:
    """With finish_reason length and as many tokens counted: clients go on, or cut, by this."""
    request = {**_reproducible(questions.reproducible_chat[0]), "max_tokens": FEW_TOKENS, "ignore_eos": True}
    answer = client.post(CHAT, request)
    reply, tokens = shapes.reply(answer), shapes.counted(answer, "completion_tokens")
    if (reply.finish_reason, tokens) != ("length", FEW_TOKENS):
        raise Wrong(
            f"finish_reason length after {FEW_TOKENS} tokens",
            f"{reply.finish_reason} after {tokens} tokens, text {excerpt(reply.text)!r}, from "
            f"{client.where('POST', CHAT)}",
            "something between changes max_tokens or rewrites answers",
        )


def _reproducible(question: ChatQuestion) -> dict[str, Any]:
    return {"messages": question.messages, "max_tokens": DEFAULT_MAX_TOKENS, **question.request, "temperature": 0}
