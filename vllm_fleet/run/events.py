"""From ansible-runner's events to the state of a run. Pure: `apply(state, event)` gives the next state.

The same fold serves the display while the run goes on and the summary, which is computed again from the events on disk.
Times are seconds since the epoch, as the events carry them.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

from vllm_fleet.run.messages import attempt_text, clean, debug_text, failure_text, unreachable_text

Event = Mapping[str, Any]
Outcome = Literal["ok", "changed", "skipped", "ignored", "failed", "unreachable"]

COUNTS = {  # field of HostCounts -> its name in Ansible's stats event
    "ok": "ok",
    "changed": "changed",
    "unreachable": "dark",
    "failed": "failures",
    "skipped": "skipped",
    "rescued": "rescued",
    "ignored": "ignored",
}


@dataclass(frozen=True)
class HostCounts:
    """How many tasks of one host ended how, as Ansible's recap counts them."""

    ok: int = 0
    changed: int = 0
    unreachable: int = 0
    failed: int = 0
    skipped: int = 0
    rescued: int = 0
    ignored: int = 0


@dataclass(frozen=True)
class Attempt:
    """One attempt of a task with `until`: its number, how many there may be, and what it said."""

    number: int
    of: int
    text: str


@dataclass(frozen=True)
class Failure:
    """A task that failed on a host, or did not reach it."""

    host: str
    stage: str
    task: str
    message: str
    path: str = ""
    unreachable: bool = False


@dataclass(frozen=True)
class Message:
    """What a debug task told the person, per host."""

    host: str
    task: str
    text: str


@dataclass(frozen=True)
class TaskRun:
    """One task (or handler) in one play over all its hosts."""

    name: str
    stage: str
    started: float
    ended: float | None = None
    pending: tuple[str, ...] = ()
    outcomes: Mapping[str, Outcome] = field(default_factory=dict)
    attempts: Mapping[str, Attempt] = field(default_factory=dict)

    def seconds(self, now: float) -> float:
        """How long the task took, or has taken until `now`."""
        return max(0.0, (now if self.ended is None else self.ended) - self.started)

    def hosts(self, *outcomes: Outcome) -> tuple[str, ...]:
        """The hosts on which the task ended in one of `outcomes`."""
        return tuple(host for host, outcome in self.outcomes.items() if outcome in outcomes)


@dataclass(frozen=True)
class RunState:
    """Everything that the events so far say about a run."""

    pid: int | None = None
    started: float | None = None
    now: float = 0.0
    stage: str = ""
    stages: tuple[str, ...] = ()
    task: TaskRun | None = None
    finished: tuple[TaskRun, ...] = ()
    failures: tuple[Failure, ...] = ()
    messages: tuple[Message, ...] = ()
    diffs: tuple[Message, ...] = ()
    warnings: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()
    stats: Mapping[str, HostCounts] | None = None

    @property
    def stages_started(self) -> int:
        """How many plays have begun; a play that runs in batches (`serial`) counts once."""
        return len(self.stages)


def fold(events: Iterable[Event]) -> RunState:
    """The state after all `events`."""
    state = RunState()
    for event in events:
        state = apply(state, event)
    return state


def apply(state: RunState, event: Event) -> RunState:
    """The state after one more event. Unknown kinds of event change nothing but the clock."""
    kind = str(event.get("event", ""))
    data: Mapping[str, Any] = event.get("event_data") or {}
    now = _timestamp(event) or state.now
    state = replace(
        state,
        now=now,
        started=now if state.started is None else state.started,
        pid=event.get("pid") or state.pid,
    )
    if kind == "playbook_on_play_start":
        return _start_stage(_end_task(state), data)
    if kind in ("playbook_on_task_start", "playbook_on_handler_task_start"):
        return _start_task(_end_task(state), data)
    if kind == "playbook_on_stats":
        return replace(_end_task(state), stats=_counts(data))
    if kind == "runner_on_file_diff":
        return _diff(state, data, str(event.get("stdout") or ""))
    if kind.startswith("runner_"):
        return _task_event(state, kind, data, str(event.get("stdout") or ""))
    return _output(state, kind, str(event.get("stdout") or ""))


def _timestamp(event: Event) -> float | None:
    try:
        return datetime.fromisoformat(str(event["created"])).timestamp()
    except (KeyError, ValueError):
        return None


def _end_task(state: RunState) -> RunState:
    if state.task is None:
        return state
    return replace(state, task=None, finished=(*state.finished, replace(state.task, ended=state.now, pending=())))


def _start_stage(state: RunState, data: Mapping[str, Any]) -> RunState:
    # Ansible numbers the batches of a serial play by appending _2, _3 ... to the play's own id.
    identity = str(data.get("play_uuid", data.get("uuid"))).partition("_")[0]
    stages = state.stages if identity in state.stages else (*state.stages, identity)
    return replace(state, stage=clean(data.get("name") or data.get("play") or ""), stages=stages)


def _start_task(state: RunState, data: Mapping[str, Any]) -> RunState:
    return replace(state, task=TaskRun(name=_task_name(data), stage=state.stage, started=state.now))


def _task_name(data: Mapping[str, Any]) -> str:
    name, role = clean(data.get("task") or data.get("name") or ""), data.get("role")
    return f"{role}: {name.removeprefix(f'{role} : ')}" if role else name


def _task_event(state: RunState, kind: str, data: Mapping[str, Any], stdout: str) -> RunState:
    host = str(data.get("host", ""))
    result = data.get("res") or {}
    task = state.task or TaskRun(name=_task_name(data), stage=state.stage, started=state.now)
    if kind == "runner_on_start":
        return replace(state, task=replace(task, pending=(*task.pending, host)))
    if kind == "runner_retry":
        attempt = Attempt(int(result.get("attempts", 0)), int(result.get("retries", 0)), attempt_text(result))
        return replace(state, task=replace(task, attempts={**task.attempts, host: attempt}))
    outcome = _outcome(kind, data, stdout)
    if outcome is None:
        return state
    pending = tuple(other for other in task.pending if other != host)
    state = replace(state, task=replace(task, pending=pending, outcomes={**task.outcomes, host: outcome}))
    # The event names its own task: with the strategy `free` that need not be the last one begun.
    name, stage = _task_name(data) or task.name, clean(data.get("play") or task.stage)
    if outcome in ("failed", "unreachable"):
        unreachable = outcome == "unreachable"
        text = unreachable_text(result) if unreachable else failure_text(result)
        failure = Failure(host, stage, name, text, str(data.get("task_path", "")), unreachable)
        return replace(state, failures=(*state.failures, failure))
    action = str(data.get("resolved_action") or data.get("task_action") or "")
    if outcome == "ok" and action.rpartition(".")[2] == "debug" and (text := debug_text(result)):
        return replace(state, messages=(*state.messages, Message(host, name, text)))
    return state


def _outcome(kind: str, data: Mapping[str, Any], stdout: str) -> Outcome | None:
    if kind == "runner_on_ok":
        # Of a censored result (no_log) only the printed word tells.
        changed = (data.get("res") or {}).get("changed") or re.search(r"^changed: ", stdout, re.MULTILINE)
        return "changed" if changed else "ok"
    if kind == "runner_on_failed":
        return "ignored" if data.get("ignore_errors") else "failed"
    if kind == "runner_on_unreachable":
        return "unreachable"
    return "skipped" if kind == "runner_on_skipped" else None


def _counts(data: Mapping[str, Any]) -> dict[str, HostCounts]:
    hosts = {host for name in (*COUNTS.values(), "processed") for host in data.get(name) or {}}
    return {
        host: HostCounts(**{ours: int((data.get(theirs) or {}).get(host, 0)) for ours, theirs in COUNTS.items()})
        for host in sorted(hosts)
    }


def _diff(state: RunState, data: Mapping[str, Any], stdout: str) -> RunState:
    # Ansible may print the task's heading only now, in front of the diff.
    text = "\n".join(line for line in clean(stdout).splitlines() if not line.startswith("TASK [")).strip("\n")
    if not text:
        return state
    return replace(state, diffs=(*state.diffs, Message(str(data.get("host", "")), _task_name(data), text)))


def _output(state: RunState, kind: str, stdout: str) -> RunState:
    text = clean(stdout).strip("\n")
    if not text.strip():
        return state
    if kind in ("warning", "system_warning", "deprecated") or text.startswith("[WARNING]"):
        return state if text in state.warnings else replace(state, warnings=(*state.warnings, text))
    # An error outside any task comes line by line; what follows its first line belongs to it.
    if state.errors or kind == "error" or text.startswith(("[ERROR]", "ERROR!")):
        return replace(state, errors=(*state.errors, text))
    return state
