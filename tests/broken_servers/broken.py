"""What a broken server is: a stub, wrong in one way, and the checks that must notice."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any

from tests.broken_servers.stub import QUESTIONS, Answer, Fault, Json, Says, healthy, right, serving, unchanged
from vllm_fleet.verify.questions import Questions
from vllm_fleet.verify.run import ServerResult, verify_server

TIMEOUT = 20.0  # seconds for one answer of a server that is not slow by intent


@dataclass(frozen=True)
class Broken:
    """A server that is wrong in one way.

    Attributes:
        id: its name in tests.
        wrong: what is wrong with it, as the documentation says.
        kind: what it is declared to be.
        fails: the checks that must fail, and no others; patterns such as `answers_*`, each matching at least one.
        message: words that must stand in the finding of one of them.
        declared: fields of the endpoint that are declared otherwise.
        timeout: seconds that the verification waits for an answer.
        limits: declared limits of figures.
    """

    id: str
    wrong: str
    kind: str
    fails: tuple[str, ...]
    message: str
    fault: Fault = healthy
    says: Says = right
    rescore: Callable[[float], float] = unchanged
    really: str | None = None
    declared: Mapping[str, Any] = field(default_factory=dict)
    timeout: float = TIMEOUT
    limits: Mapping[str, float] = field(default_factory=dict)

    def expects(self, check: str) -> bool:
        """Whether this check must fail."""
        return any(fnmatchcase(check, pattern) for pattern in self.fails)

    def verify(self) -> ServerResult:
        """Serve it and verify it."""
        questions: Questions = replace(QUESTIONS, limits={self.kind: self.limits})
        with serving(
            self.kind, self.fault, says=self.says, rescore=self.rescore, really=self.really, **self.declared
        ) as endpoint:
            return verify_server(endpoint, questions, self.timeout)


def failed(result: ServerResult) -> dict[str, str]:
    """The failed checks with their findings."""
    return {one.check: f"{one.expected} | {one.got} | {one.usually}" for one in result.failures}


def rewriting(change: Callable[[Json, Json], None], *keys: str) -> Fault:
    """A fault that changes the JSON of answers that have all these keys."""

    def fault(path: str, request: Json, answer: Answer) -> Answer:
        if isinstance(answer.body, dict) and all(key in answer.body for key in keys):
            body = json.loads(json.dumps(answer.body))
            change(request, body)
            return replace(answer, body=body)
        return answer

    return fault


def on_model(**changes: Any) -> Fault:
    """A fault that changes the entry of /v1/models."""

    def change(request: Json, body: Json) -> None:
        if body["data"] and body["data"][0].get("object") == "model":
            body["data"][0].update(changes)

    return rewriting(change, "data")


def on_stream(change: Callable[[list[str]], list[str]], tools: bool = False) -> Fault:
    """A fault that changes the events of streamed texts, or of streamed tool calls."""

    def fault(path: str, request: Json, answer: Answer) -> Answer:
        if answer.events is None or bool(request.get("tools")) != tools:
            return answer
        return replace(answer, events=tuple(change(list(answer.events))))

    return fault


def on_choice(change: Callable[[Json], None], when: Callable[[Json], Any] = lambda choice: True) -> Fault:
    """A fault that changes the first choice of blocking chat answers that `when` picks."""

    def edit(request: Json, body: Json) -> None:
        if when(body["choices"][0]):
            change(body["choices"][0])

    return rewriting(edit, "choices")


def on_vectors(change: Callable[[Json, list[Json]], None]) -> Fault:
    """A fault that changes the vectors sent as numbers."""

    def edit(request: Json, body: Json) -> None:
        if body["data"] and isinstance(body["data"][0].get("embedding"), list):
            change(request, body["data"])

    return rewriting(edit, "data")


def under_load(more_than: int, change: Callable[[Answer], Answer]) -> Fault:
    """A fault that appears while more than so many requests are under way; each takes a moment for that."""
    lock, under_way = threading.Lock(), [0]

    def fault(path: str, request: Json, answer: Answer) -> Answer:
        if not request:
            return answer
        with lock:
            under_way[0] += 1
        time.sleep(0.04)
        with lock:
            crowd = under_way[0]
            under_way[0] -= 1
        return change(answer) if crowd > more_than else answer

    return fault
