"""Checks of the longest input: exactly as long as declared it is answered, one token longer it is refused."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from vllm_fleet.verify import shapes
from vllm_fleet.verify.checks.common import CHAT, EMBEDDINGS, RERANK, require_refusal, served_length
from vllm_fleet.verify.client import Client
from vllm_fleet.verify.endpoint import Endpoint
from vllm_fleet.verify.outcome import NotRun, Wrong, excerpt
from vllm_fleet.verify.questions import Questions
from vllm_fleet.verify.registry import check

# One of them is one token for any tokenizer; how many tokens are around it is measured.
WORDS = ("a", "the", "is", "1", "x")
MEASURED = (8, 24)  # words


@check(title="answers an input of exactly the maximum length")
def full_length(client: Client, endpoint: Endpoint, questions: Questions) -> None:
    """Positions, memory and time-outs that are too small show here, and not at noon with somebody's long document."""
    generated = 1 if endpoint.kind == "llm" else 0
    length = served_length(client, endpoint) - generated
    path, body = _request_of(client, endpoint)(length)
    answer = client.post(path, body)
    tokens = shapes.counted(answer, "prompt_tokens")
    if tokens != length:
        raise Wrong(
            f"an input of {length} tokens, read whole",
            f"{tokens} tokens counted by {client.where('POST', path)}",
            "something between cuts long inputs, or `truncate_prompt_tokens` is set by default",
        )
    if not all(map(math.isfinite, _numbers(endpoint.kind, answer))):
        raise Wrong(
            "numbers that are finite",
            f"{excerpt(answer)} from {client.where('POST', path)}",
            "float16 overflows, or max_model_len is beyond the positions that the model has",
        )


@check(title="refuses an input that is one token too long, and says the limit")
def over_long_refused(client: Client, endpoint: Endpoint, questions: Questions) -> None:
    """An input that is cut in silence gives a wrong answer, and a refusal without numbers helps nobody."""
    length = served_length(client, endpoint)
    path, body = _request_of(client, endpoint)(length + 1)
    require_refusal(
        client,
        path,
        body,
        f"HTTP 400 with the limit of {length} tokens in its text",
        "inputs are cut in silence (`truncate_prompt_tokens`, or something between), or a proxy replaces the message",
        containing=str(length),
    )


def _request_of(client: Client, endpoint: Endpoint) -> Callable[[int], tuple[str, Mapping[str, Any]]]:
    """What makes the path and the request for an input of so many tokens."""
    for word in WORDS:
        few, many = (_counted(client, endpoint.kind, word, count) for count in MEASURED)
        if many - few == MEASURED[1] - MEASURED[0]:
            return partial(_request, endpoint.kind, word, around=few - MEASURED[0])
    raise NotRun("no word was found that is one token, so the length of an input cannot be chosen")


def _counted(client: Client, kind: str, word: str, count: int) -> int:
    return shapes.counted(client.post(*_request(kind, word, count)), "prompt_tokens")


def _request(kind: str, word: str, tokens: int, around: int = 0) -> tuple[str, Mapping[str, Any]]:
    text = " ".join([word] * (tokens - around))
    match kind:
        case "llm":
            return CHAT, {"messages": [{"role": "user", "content": text}], "temperature": 0, "max_tokens": 1}
        case "embedding":
            return EMBEDDINGS, {"input": [text]}
        case _:
            return RERANK, {"query": word, "documents": [text]}


def _numbers(kind: str, answer: Mapping[str, Any]) -> list[float]:
    match kind:
        case "llm":
            shapes.reply(answer)
            return []
        case "embedding":
            return shapes.vectors(answer, 1)[0]
        case _:
            return [score for _, score, _ in shapes.ranking(answer, 1)]
