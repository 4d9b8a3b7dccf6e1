"""The checks: each has a stable id, the kinds of server it is for, a title, and asks one thing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from vllm_fleet.verify.client import Client
from vllm_fleet.verify.endpoint import KINDS, Endpoint
from vllm_fleet.verify.outcome import Figure, NotRun, Outcome, Status, Wrong, excerpt
from vllm_fleet.verify.questions import Questions

# Gives what it measured, if anything.
Function = Callable[[Client, Endpoint, Questions], Iterable[Figure] | None]


class _Question(Protocol):
    @property
    def id(self) -> str: ...
    @property
    def skip(self) -> str: ...


_Q = TypeVar("_Q", bound=_Question)


@dataclass(frozen=True)
class Check:
    """One question to one kind of server.

    The function returns where the answer is right, raises `Wrong` where it is not, and `NotRun` where it cannot say.
    """

    id: str
    title: str
    kinds: tuple[str, ...]
    function: Function
    decisive: bool  # where it fails, the later checks of the server would only repeat the same finding

    def run(self, client: Client, endpoint: Endpoint, questions: Questions) -> Outcome:
        """Ask and judge. Raises nothing."""
        began, sent = time.monotonic(), len(client.exchanges)

        def outcome(status: Status, figures: tuple[Figure, ...] = (), **texts: str) -> Outcome:
            shown = {name: client.redacted(text) for name, text in texts.items()}
            exchanges = tuple(client.exchanges[sent:])
            seconds = time.monotonic() - began
            return Outcome(self.id, self.title, status, seconds, figures=figures, exchanges=exchanges, **shown)

        figures: tuple[Figure, ...] = ()
        try:
            figures = tuple(self.function(client, endpoint, questions) or ())
            _require_limits(figures, questions.limits.get(endpoint.kind, {}), endpoint)
        except Wrong as wrong:
            return outcome(Status.FAILED, figures, expected=wrong.expected, got=wrong.got, usually=wrong.usually)
        except NotRun as reason:
            return outcome(Status.NOT_RUN, reason=str(reason))
        except Exception as error:  # an answer nobody thought of must not end the other checks
            return outcome(
                Status.FAILED,
                expected="an answer that can be judged",
                got=f"{type(error).__name__}: {excerpt(str(error))} while judging the answer of {endpoint.base_url}",
                usually="an answer of an unknown shape; please report this check with the server's answer",
            )
        return outcome(Status.PASSED, figures)

    def not_run(self, reason: str) -> Outcome:
        """The outcome of not having been run."""
        return Outcome(self.id, self.title, Status.NOT_RUN, reason=reason)


def _require_limits(figures: Iterable[Figure], limits: Mapping[str, float], endpoint: Endpoint) -> None:
    for figure in figures:
        limit = limits.get(figure.name)
        if limit is not None and not figure.within(limit):
            raise Wrong(
                f"the declared limit of {limit:g} for {figure.name}",
                f"{figure} from {endpoint.base_url} ({endpoint.name} on {endpoint.host})",
                "other load on the host or its GPU, fewer GPUs or another dtype than before; or a limit set too tight",
            )


_Source = Callable[[Questions], list[Check]]
_SOURCES: list[_Source] = []


def check(*kinds: str, title: str, decisive: bool = False) -> Callable[[Function], Function]:
    """Register a function as the check of its own name, for these kinds (default: those of servers)."""

    def register(function: Function) -> Function:
        one = Check(function.__name__, title, kinds or KINDS, function, decisive)
        _SOURCES.append(lambda questions: [one])
        return function

    return register


def check_each(
    kind: str, questions_of: Callable[[Questions], Sequence[_Q]], title: str
) -> Callable[[Callable[[Client, Endpoint, _Q], None]], Callable[[Client, Endpoint, _Q], None]]:
    """Register a function as one check per question, with the question's id in the check's id and in the title."""

    def register(function: Callable[[Client, Endpoint, _Q], None]) -> Callable[[Client, Endpoint, _Q], None]:
        def bind(question: _Q) -> Check:
            def ask(client: Client, endpoint: Endpoint, _: Questions) -> None:
                if question.skip:
                    raise NotRun(question.skip)
                function(client, endpoint, question)

            return Check(f"{function.__name__}_{question.id}", title.format(question.id), (kind,), ask, False)

        _SOURCES.append(lambda questions: [bind(one) for one in questions_of(questions)])
        return function

    return register


def registered(kind: str, questions: Questions) -> list[Check]:
    """The registered checks for a kind of server, in the order in which they are asked: decisive ones first."""
    found = [one for source in _SOURCES for one in source(questions) if kind in one.kinds]
    return sorted(found, key=lambda one: not one.decisive)
