"""What a check can say: passed, failed (expected, got, usual cause) or not run (why)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

EXCERPT_LENGTH = 240  # characters of an answer that are shown


class Status(StrEnum):
    """The three ways a check can end."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_RUN = "not run"


@dataclass(frozen=True)
class Figure:
    """Something measured; the name says the unit. It is judged only where the user declares a limit for it."""

    name: str  # ends in _seconds or _per_second
    value: float

    def within(self, limit: float) -> bool:
        """Whether it is as good as `limit`: seconds are to be few, things per second many."""
        return self.value >= limit if self.name.endswith("_per_second") else self.value <= limit

    def __str__(self) -> str:
        return f"{self.name} {round(self.value, 3 if self.value < 10 else 0):g}"


@dataclass(frozen=True)
class Exchange:
    """One request and its answer, as far as a report shows them."""

    method: str
    path: str
    request: str  # JSON; empty for GET
    status: int | None  # of HTTP; None: no answer
    answer: str
    seconds: float


@dataclass(frozen=True)
class Outcome:
    """The result of one check on one server; the texts are empty unless they apply to the status."""

    check: str
    title: str
    status: Status
    seconds: float = 0.0
    expected: str = ""
    got: str = ""
    usually: str = ""
    reason: str = ""  # why it was not run
    figures: tuple[Figure, ...] = ()
    exchanges: tuple[Exchange, ...] = ()

    def explain(self) -> list[tuple[str, str]]:
        """The labelled lines that a failure, or a check that was not run, is shown with."""
        if self.status is Status.FAILED:
            return [("expected", self.expected), ("got", self.got), ("usually", self.usually)]
        return [("not run", self.reason)] if self.status is Status.NOT_RUN else []


class Wrong(Exception):  # noqa: N818 - it is a finding, not an error of the program
    """A check's finding: what was expected, what was got, what usually causes it and what to do."""

    def __init__(self, expected: str, got: str, usually: str) -> None:
        super().__init__(f"expected {expected}, got {got}")
        self.expected, self.got, self.usually = expected, got, usually


class NotRun(Exception):  # noqa: N818 - likewise
    """A check cannot say anything here; the message says why."""


def excerpt(value: object, length: int = EXCERPT_LENGTH) -> str:
    """`value` as one line of at most `length` characters, none of them a control character."""
    line = " ".join((value if isinstance(value, str) else repr(value)).split())
    text = "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in line)
    return text if len(text) <= length else f"{text[:length]}... ({len(text)} characters)"
