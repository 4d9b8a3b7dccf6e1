"""Takes vLLM's answers apart; an answer of another shape is a finding."""

from __future__ import annotations

import base64
import binascii
import math
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vllm_fleet.verify.client import Stream
from vllm_fleet.verify.outcome import NotRun, Wrong, excerpt

_ANOTHER_VERSION = "another vLLM version than the pinned one, or something between that rewrites answers"


@dataclass(frozen=True)
class ToolCall:
    """A function call the model asks for; `arguments` is the JSON text it wrote."""

    name: str
    arguments: str


@dataclass(frozen=True)
class Reply:
    """A chat answer, blocking or put together from a stream."""

    text: str
    tool_calls: tuple[ToolCall, ...]
    finish_reason: str | None


def wrong_shape(expected: str, answer: object) -> Wrong:
    """The finding for an answer of another shape."""
    return Wrong(expected, excerpt(answer), _ANOTHER_VERSION)


def reply(answer: Mapping[str, Any]) -> Reply:
    """The first choice of a `chat.completion`."""
    try:
        choice = answer["choices"][0]
        message, finish_reason = choice["message"], choice["finish_reason"]
        calls = tuple(_call(call["function"]) for call in message.get("tool_calls") or ())
        text = message["content"] or ""
    except (KeyError, IndexError, TypeError, AttributeError):
        raise wrong_shape("an object `chat.completion` with choices[0].message and finish_reason", answer) from None
    if answer.get("object") != "chat.completion" or not isinstance(text, str) or not _text_or_none(finish_reason):
        raise wrong_shape("an object `chat.completion` with a text and a finish_reason", answer)
    return Reply(text, calls, finish_reason)


def streamed_reply(stream: Stream) -> Reply:
    """The first choice of a stream of `chat.completion.chunk`, put together."""
    text, finish_reason = "", None
    calls: dict[int, dict[str, str]] = {}
    for chunk in stream.chunks:
        try:
            for choice in chunk["choices"]:
                delta = choice["delta"]
                text += delta.get("content") or ""
                finish_reason = choice.get("finish_reason") or finish_reason
                for part in delta.get("tool_calls") or ():
                    call = calls.setdefault(part["index"], {"name": "", "arguments": ""})
                    for key, value in part["function"].items():
                        call[key] = call.get(key, "") + (value or "")
        except (KeyError, TypeError, AttributeError):
            raise wrong_shape("an event `chat.completion.chunk` with choices[].delta", chunk) from None
    return Reply(text, tuple(ToolCall(one["name"], one["arguments"]) for one in calls.values()), finish_reason)


def vectors(answer: Mapping[str, Any], count: int) -> list[list[float]]:
    """The `count` vectors of an embedding answer, in order; a null among the numbers is read as NaN."""
    entries = _entries(answer, "data", count, "embedding", f"a list of {count} embeddings with index 0, 1, ...")
    found = [_vector(entry["embedding"]) for entry in entries]
    if any(one is None for one in found):
        raise wrong_shape("embeddings that are lists of numbers", answer)
    return [one for one in found if one is not None]


def packed_vectors(answer: Mapping[str, Any], count: int) -> list[list[float]]:
    """The same from an answer in `encoding_format: base64`, little-endian float32."""
    entries = _entries(answer, "data", count, "embedding", f"a list of {count} embeddings with index 0, 1, ...")
    try:
        raw = [base64.b64decode(entry["embedding"], validate=True) for entry in entries]
        return [list(struct.unpack(f"<{len(one) // 4}f", one)) for one in raw]
    except (TypeError, ValueError, binascii.Error, struct.error):
        raise wrong_shape("embeddings in base64, as asked for", answer) from None


def scores(answer: Mapping[str, Any], count: int) -> list[float]:
    """The `count` scores of a /score answer, in order."""
    entries = _entries(answer, "data", count, "score", f"a list of {count} scores with index 0, 1, ...")
    return _finite((entry["score"] for entry in entries), answer)


def ranking(answer: Mapping[str, Any], count: int) -> list[tuple[int, float, str | None]]:
    """The `count` results of a /rerank answer, best first: index, relevance score, text of the document."""
    results = answer.get("results")
    expected = f"{count} results with index, document and relevance_score"
    if not isinstance(results, list) or len(results) != count:
        raise wrong_shape(expected, answer)
    try:
        found = [(one["index"], one["document"].get("text")) for one in results]
        values = _finite((one["relevance_score"] for one in results), answer)
    except (KeyError, TypeError, AttributeError):
        raise wrong_shape(expected, answer) from None
    return [(index, value, text) for (index, text), value in zip(found, values, strict=True)]


def usage(answer: Mapping[str, Any], parts: Sequence[str]) -> dict[str, int]:
    """The token counts named in `parts`."""
    counts = answer.get("usage")
    if not isinstance(counts, dict) or not all(isinstance(counts.get(part), int) for part in parts):
        raise Wrong(f"usage with {', '.join(parts)}", excerpt(counts), _ANOTHER_VERSION)
    return {part: counts[part] for part in parts}


def counted(answer: Mapping[str, Any], part: str) -> int:
    """One of the token counts, for checks that are about something else.

    Raises:
        NotRun: it is missing, which is the finding of the check `usage`.
    """
    try:
        return usage(answer, (part,))[part]
    except Wrong:
        raise NotRun("the answer does not say how many tokens it used, see usage") from None


def _call(function: Mapping[str, Any]) -> ToolCall:
    return ToolCall(function["name"], function["arguments"])


def _text_or_none(value: object) -> bool:
    return value is None or isinstance(value, str)


def _entries(answer: Mapping[str, Any], key: str, count: int, field: str, expected: str) -> list[Mapping[str, Any]]:
    entries = answer.get(key)
    if (
        not isinstance(entries, list)
        or not all(isinstance(one, dict) and field in one for one in entries)
        or [one.get("index") for one in entries] != list(range(count))
    ):
        raise wrong_shape(expected, answer)
    return entries


def _vector(value: object) -> list[float] | None:
    if not isinstance(value, list) or not value:
        return None
    numbers = [math.nan if one is None else one for one in value]
    return [float(one) for one in numbers] if all(_number(one) for one in numbers) else None


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _finite(values: Iterable[object], answer: object, check: Callable[[float], bool] = math.isfinite) -> list[float]:
    found = [float(one) for one in values if isinstance(one, int | float) and not isinstance(one, bool)]
    if not found or not all(map(check, found)):
        raise Wrong(
            "scores that are finite numbers",
            excerpt(answer),
            "float16 overflows for this model on this GPU: declare `dtype: bfloat16` or float32 for it",
        )
    return found
