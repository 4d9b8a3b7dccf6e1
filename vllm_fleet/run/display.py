"""What every way of showing a run has in common."""

from typing import Protocol

from vllm_fleet.run.events import RunState, TaskRun
from vllm_fleet.run.hints import SLOW_AFTER, hint_for
from vllm_fleet.run.logs import History


class Display(Protocol):
    """Shows a run while it goes on. Its methods return at once: ansible-runner waits for them."""

    def start(self) -> None:
        """Begin showing."""

    def update(self, before: RunState, after: RunState) -> None:
        """One event has come in."""

    def tick(self, state: RunState, now: float) -> None:
        """About a second has passed; `now` in seconds since the epoch."""

    def notice(self, text: str) -> None:
        """Say something now, for example that an interruption was understood."""

    def stop(self) -> None:
        """End showing and leave the screen in order."""


def duration(seconds: float) -> str:
    """A time for people: 8 s, 1:42, 1:02:03."""
    total = int(seconds)
    if total < 60:
        return f"{total} s"
    minutes, rest = divmod(total, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def host_names(hosts: tuple[str, ...], limit: int = 4) -> str:
    """Host names for a line: all of a few, else the first ones and how many more."""
    shown = ", ".join(hosts[:limit])
    return f"{shown} and {len(hosts) - limit} more" if len(hosts) > limit else shown


def stage_title(state: RunState, plays: int | None) -> str:
    """The current stage and how many there are, as far as that is known."""
    total = f" of {plays}" if plays and plays >= state.stages_started else ""
    return f"Stage {state.stages_started}{total}: {state.stage}"


def tasks_done(state: RunState, history: History) -> str:
    """How many tasks are done, of about how many if the last good run of this job tells."""
    done = len(state.finished)
    about = f" of about {history.tasks}" if history.tasks and history.tasks >= done else ""
    return f"{done}{about} tasks done"


def slow_hint(task: TaskRun, now: float, history: History) -> str | None:
    """What to say about a task that has been running for a while: why it may be, and how long it took last time."""
    if task.seconds(now) < SLOW_AFTER:
        return None
    last = history.seconds.get((task.stage, task.name), 0.0)
    took = f"It took {duration(last)} last time." if last >= SLOW_AFTER else ""
    reason = hint_for(task.stage, task.name)
    sentence = f"{reason[0].upper()}{reason[1:]}" if reason else ""
    return " ".join(filter(None, (sentence, took))) or None


def attempts(task: TaskRun) -> list[str]:
    """One line for each host that retries the task: which attempt it is at, and what the last one said."""
    lines = []
    for host, attempt in task.attempts.items():
        if host in task.pending:
            text = f": {attempt.text}" if attempt.text else ""
            lines.append(f"{host}, try {attempt.number + 1} of {attempt.of}{text}")
    return lines
