"""The questions a deployment is asked, read from questions.yml and, if given, a file of the user's own."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar

import yaml

from vllm_fleet.errors import FleetError
from vllm_fleet.verify.golden import Golden

DEFAULT_FILE = Path(__file__).with_name("questions.yml")


@dataclass(frozen=True)
class ChatQuestion:
    """A chat request whose answer must contain one of some texts, or be some JSON, and end for one of some reasons.

    Where `json` is given, `contains_any` is that as a text: one of several right ones, since blanks do not matter.
    """

    id: str
    messages: Sequence[Mapping[str, Any]]
    request: Mapping[str, Any]
    contains_any: tuple[str, ...]
    finish_reasons: tuple[str, ...]
    json: Mapping[str, Any] | None = None
    skip: str = ""


@dataclass(frozen=True)
class Call:
    """One call of a tool."""

    tool: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class ToolQuestion:
    """A chat request that must be answered by exactly these calls of tools, in this order."""

    id: str
    messages: Sequence[Mapping[str, Any]]
    tools: Sequence[Mapping[str, Any]]
    request: Mapping[str, Any]
    calls: tuple[Call, ...]
    skip: str = ""


@dataclass(frozen=True)
class Triple:
    """A text that must be closer to its paraphrase than to an unrelated text."""

    id: str
    text: str
    paraphrase: str
    unrelated: str
    skip: str = ""


@dataclass(frozen=True)
class Pair:
    """The two texts of one /score request."""

    text_1: str
    text_2: str


@dataclass(frozen=True)
class Batch:
    """A /score request with several candidates; `best` is the index of the one that must score highest."""

    text_1: str
    text_2: tuple[str, ...]
    best: int


@dataclass(frozen=True)
class Ranking:
    """A /rerank request; `order` gives the document indexes from best to worst, as far as the order matters."""

    id: str
    query: str
    documents: tuple[str, ...]
    order: tuple[int, ...]
    skip: str = ""


@dataclass(frozen=True)
class Questions:
    """All of them. A question with a reason in `skip` is not asked, and reported so."""

    chat: tuple[ChatQuestion, ...]
    tools: tuple[ToolQuestion, ...]
    guide_texts: tuple[str, ...]
    closer: tuple[Triple, ...]
    guide_single: Pair
    guide_batch: Batch
    ranking: tuple[Ranking, ...]
    limits: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # of figures, by kind
    golden: Golden | None = None  # what was recorded before, to compare with

    @property
    def reproducible_chat(self) -> list[ChatQuestion]:
        """The chat questions that are asked at temperature 0; if there are none, the first one of all."""
        asked = [one for one in self.chat if not one.skip] or list(self.chat)
        return [one for one in asked if one.request.get("temperature") == 0] or asked[:1]


_Question = TypeVar("_Question", ChatQuestion, ToolQuestion, Triple, Ranking)


def load_questions(own: Path | None = None) -> Questions:
    """The built-in questions, with those of the file `own` added; one with a known id takes that one's place.

    Raises:
        FleetError: a file cannot be read or is not of the form of questions.yml; says where.
    """
    sources = [_read(DEFAULT_FILE), *([_read(own)] if own else [])]

    def section(kind: str, part: str) -> list[tuple[Any, str]]:
        return [(data[kind][part], f"{file}: {kind}.{part}") for data, file in sources if part in data.get(kind, {})]

    def listed(kind: str, part: str, make: Callable[[_Entry], _Question]) -> tuple[_Question, ...]:
        found: dict[str, _Question] = {}
        for items, where in section(kind, part):
            for entry in (_Entry(item, where) for item in _list(items, where)):
                if "skip" in entry.data:
                    known = entry.one_of("id", found)
                    found[known] = replace(found[known], skip=entry.text("skip"))
                else:
                    question = make(entry)
                    found[question.id] = question
        return tuple(found.values())

    texts, where = section("embedding", "guide_texts")[-1]
    return Questions(
        chat=listed("llm", "chat", _chat),
        tools=listed("llm", "tools", _tool),
        guide_texts=_texts(texts, where),
        closer=listed("embedding", "closer", lambda e: Triple(*map(e.text, ("id", "text", "paraphrase", "unrelated")))),
        guide_single=_pair(_Entry(*section("rerank", "guide_single")[-1])),
        guide_batch=_batch(_Entry(*section("rerank", "guide_batch")[-1])),
        ranking=listed("rerank", "ranking", _ranking),
        limits={kind: _limits(*section(kind, "limits")[-1], kind) for kind in _PARTS if section(kind, "limits")},
    )


_PARTS = {
    "llm": {"chat", "tools", "limits"},
    "embedding": {"guide_texts", "closer", "limits"},
    "rerank": {"guide_single", "guide_batch", "ranking", "limits"},
}
# What the small load measures, and limits can be declared for.
FIGURES = {
    "llm": ("first_token_seconds", "slowest_seconds", "tokens_per_second"),
    "embedding": ("slowest_seconds", "texts_per_second"),
    "rerank": ("slowest_seconds", "documents_per_second"),
}


def _read(file: Path) -> tuple[dict[str, Any], Path]:
    try:
        data = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise FleetError(f"The questions cannot be read from {file}: {error}.") from None
    except yaml.YAMLError as error:
        raise FleetError(f"{file} is not YAML: {' '.join(str(error).split())}.") from None
    if not isinstance(data, dict) or not data:
        raise FleetError(f"{file}: expected the sections {', '.join(_PARTS)}, found {type(data).__name__}.")
    for kind, parts in data.items():
        if kind not in _PARTS:
            raise FleetError(f"{file}: unknown section {kind!r}; known are {', '.join(_PARTS)}.")
        if not isinstance(parts, dict):
            raise FleetError(f"{file}: {kind} must hold {', '.join(sorted(_PARTS[kind]))}.")
        if unknown := sorted(map(str, set(parts) - _PARTS[kind])):
            raise FleetError(
                f"{file}: {kind}: unknown key {unknown[0]!r}; known are {', '.join(sorted(_PARTS[kind]))}."
            )
    return data, file


class _Entry:
    """One mapping of the file, read key by key; every complaint says where it is."""

    def __init__(self, data: object, where: str) -> None:
        if not isinstance(data, dict):
            raise FleetError(f"{where}: expected a mapping, found {data!r}.")
        self.data, self.where = data, f"{where}: {data['id']}" if "id" in data else where

    def get(self, key: str, wanted: type | UnionType, default: object = None) -> Any:
        value = self.data.get(key, default)
        if not isinstance(value, wanted) or isinstance(value, bool):
            found = (
                "is missing"
                if value is None
                else f"must be of type {getattr(wanted, '__name__', wanted)}, found {value!r}"
            )
            raise FleetError(f"{self.where}: {key} {found}.")
        return value

    def text(self, key: str) -> str:
        value: str = self.get(key, str)
        return value

    def one_of(self, key: str, known: Collection[str]) -> str:
        value = self.text(key)
        if value not in known:
            raise FleetError(f"{self.where}: {key} must be one of {', '.join(known)}, found {value!r}.")
        return value

    def inner(self, key: str) -> _Entry:
        return _Entry(self.get(key, dict), f"{self.where}: {key}")


def _list(value: object, where: str) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise FleetError(f"{where}: expected a list with entries, found {value!r}.")
    return value


def _texts(value: object, where: str) -> tuple[str, ...]:
    texts = _list(value, where)
    if wrong := [one for one in texts if not isinstance(one, str)]:
        raise FleetError(f"{where}: expected texts, found {wrong[0]!r}.")
    return tuple(texts)


def _limits(data: object, where: str, kind: str) -> dict[str, float]:
    entry = _Entry(data, where)
    if unknown := sorted(map(str, set(entry.data) - set(FIGURES[kind]))):
        raise FleetError(f"{where}: unknown figure {unknown[0]!r}; known are {', '.join(FIGURES[kind])}.")
    return {name: float(entry.get(name, int | float)) for name in entry.data}


def _chat(entry: _Entry) -> ChatQuestion:
    expect = entry.inner("expect")
    if wanted := expect.get("json", dict, {}):
        texts: tuple[str, ...] = (json.dumps(wanted, ensure_ascii=False),)
    else:
        texts = _texts(expect.get("contains_any", list), f"{expect.where}: contains_any")
    return ChatQuestion(
        id=entry.text("id"),
        messages=_messages(entry),
        request=entry.get("request", dict, {}),
        contains_any=texts,
        finish_reasons=_texts(expect.get("finish_reason", list, ["stop"]), f"{expect.where}: finish_reason"),
        json=wanted or None,
    )


def _messages(entry: _Entry) -> list[dict[str, Any]]:
    listed = _list(entry.get("messages", list), f"{entry.where}: messages")
    messages = [_Entry(one, f"{entry.where}: messages").data for one in listed]
    if "preamble" in entry.data:
        preamble = entry.inner("preamble")
        before = preamble.text("text") * int(preamble.get("times", int, 1))
        messages[0] = {**messages[0], "content": f"{before}{messages[0].get('content', '')}"}
    return messages


def _tool(entry: _Entry) -> ToolQuestion:
    expect = entry.inner("expect")
    where = f"{expect.where}: calls"
    calls = [_Entry(one, where) for one in _list(expect.get("calls", list), where)]
    return ToolQuestion(
        id=entry.text("id"),
        messages=_messages(entry),
        tools=_list(entry.get("tools", list), f"{entry.where}: tools"),
        request=entry.get("request", dict, {}),
        calls=tuple(Call(one.text("tool"), one.get("arguments", dict)) for one in calls),
    )


def _pair(entry: _Entry) -> Pair:
    return Pair(entry.text("text_1"), entry.text("text_2"))


def _batch(entry: _Entry) -> Batch:
    texts = _texts(entry.get("text_2", list), f"{entry.where}: text_2")
    return Batch(entry.text("text_1"), texts, _index(entry.get("best", int), texts, f"{entry.where}: best"))


def _ranking(entry: _Entry) -> Ranking:
    documents = _texts(entry.get("documents", list), f"{entry.where}: documents")
    order = entry.get("order", list) if "order" in entry.data else [entry.get("best", int)]
    checked = tuple(_index(one, documents, f"{entry.where}: order") for one in order)
    if len(set(checked)) != len(checked) or not checked:
        raise FleetError(f"{entry.where}: order must name each document once, found {order!r}.")
    return Ranking(entry.text("id"), entry.text("query"), documents, checked)


def _index(value: object, texts: Sequence[str], where: str) -> int:
    if not isinstance(value, int) or not 0 <= value < len(texts):
        raise FleetError(f"{where}: expected a number from 0 to {len(texts) - 1}, found {value!r}.")
    return value
