"""Runs the checks: servers side by side, the checks of one server one after the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime

from vllm_fleet.verify import checks as _checks  # noqa: F401 - registers them
from vllm_fleet.verify.client import ANSWER_TIMEOUT, Client
from vllm_fleet.verify.endpoint import Endpoint
from vllm_fleet.verify.outcome import Outcome, Status
from vllm_fleet.verify.questions import Questions
from vllm_fleet.verify.registry import Check, registered

MAX_THREADS = 32

Listener = Callable[[Endpoint, Outcome], None]


@dataclass(frozen=True)
class ServerResult:
    """What the checks found on one server."""

    endpoint: Endpoint
    outcomes: tuple[Outcome, ...]

    @property
    def answering(self) -> bool:
        """Whether it answered at all: its first check, `reachable`, passed."""
        return bool(self.outcomes) and self.outcomes[0].status is Status.PASSED

    @property
    def failures(self) -> tuple[Outcome, ...]:
        """The checks that failed."""
        return tuple(one for one in self.outcomes if one.status is Status.FAILED)

    def count(self, status: Status) -> int:
        """How many checks ended so."""
        return sum(one.status is status for one in self.outcomes)


@dataclass(frozen=True)
class Verification:
    """One run over all servers."""

    began: datetime
    seconds: float
    servers: tuple[ServerResult, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing failed, and something was proved on every server."""
        return all(not one.failures and one.count(Status.PASSED) for one in self.servers)


def checks_for(endpoint: Endpoint, questions: Questions) -> list[Check]:
    """The checks for a server, in the order in which they are asked."""
    return registered(endpoint.kind, questions)


def verify_server(
    endpoint: Endpoint,
    questions: Questions,
    timeout: float = ANSWER_TIMEOUT,
    listener: Listener | None = None,
    only: frozenset[str] | None = None,
) -> ServerResult:
    """Run the checks of one server.

    Args:
        endpoint: the server.
        questions: what to ask.
        timeout: seconds for one answer.
        listener: is told each outcome, from this thread.
        only: ids of the checks to run, beside the decisive ones; None runs all.
    """
    client = Client(endpoint, timeout)
    outcomes: list[Outcome] = []
    failed: Check | None = None
    for check in checks_for(endpoint, questions):
        if only is not None and not check.decisive and check.id not in only:
            continue
        if failed:
            outcome = check.not_run(f"{failed.id} failed, and all else depends on it")
        else:
            outcome = check.run(client, endpoint, questions)
            failed = check if check.decisive and outcome.status is not Status.PASSED else None
        outcomes.append(outcome)
        if listener:
            listener(endpoint, outcome)
    client.close()
    return ServerResult(endpoint, tuple(outcomes))


def verify(
    endpoints: Sequence[Endpoint],
    questions: Questions,
    timeout: float = ANSWER_TIMEOUT,
    listener: Listener | None = None,
) -> Verification:
    """Run all checks of all servers. The arguments are those of `verify_server`."""
    began, clock = datetime.now(UTC), time.monotonic()
    with ThreadPoolExecutor(max_workers=max(1, min(len(endpoints), MAX_THREADS))) as pool:
        results = tuple(pool.map(lambda one: verify_server(one, questions, timeout, listener), endpoints))
    return Verification(began, time.monotonic() - clock, results)
