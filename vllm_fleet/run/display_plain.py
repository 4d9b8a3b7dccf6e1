"""A run without a terminal: one line for each task that changed something, failed or took long."""

import sys
from typing import TextIO

from vllm_fleet.run.display import attempts, duration, host_names, slow_hint, stage_title, tasks_done
from vllm_fleet.run.events import Outcome, RunState, TaskRun
from vllm_fleet.run.logs import History

LONG = 5.0  # seconds from which a task without a change is worth a line
HEARTBEAT = 30.0  # seconds between signs of life during one task
_SHOWN: tuple[Outcome, ...] = ("failed", "unreachable", "ignored", "changed")


class PlainDisplay:
    """Lines for logs and pipes."""

    def __init__(self, plays: int | None, history: History, stream: TextIO = sys.stdout) -> None:
        self._plays = plays
        self._history = history
        self._stream = stream
        self._stage = 0
        self._spoke = 0.0

    def start(self) -> None:
        """Nothing to prepare."""

    def stop(self) -> None:
        """Nothing to put back."""

    def notice(self, text: str) -> None:
        """One line of its own."""
        print(text, file=self._stream, flush=True)

    def update(self, before: RunState, after: RunState) -> None:
        """Print the task that has just ended, and the heading of a stage that has just begun."""
        for task in after.finished[len(before.finished) :]:
            for line in task_lines(task):
                self.notice(line)
        if after.stages_started > self._stage:
            self._stage = after.stages_started
            self.notice(f"== {stage_title(after, self._plays)}")

    def tick(self, state: RunState, now: float) -> None:
        """Give a sign of life when a task has been running for long."""
        task = state.task
        if task is None or now - max(self._spoke, task.started) < HEARTBEAT:
            return
        self._spoke = now
        hosts = f"{host_names(task.pending)}: " if task.pending else ""
        self.notice(f"   ... {hosts}{task.name} ({duration(task.seconds(now))}; {tasks_done(state, self._history)})")
        for line in [*attempts(task), slow_hint(task, now, self._history)]:
            if line:
                self.notice(f"       {line}")


def task_lines(task: TaskRun) -> list[str]:
    """The lines for a finished task: one for each outcome worth one, none if all was quick and as it should be."""
    took = duration(task.seconds(task.started))
    lines = [
        f"   {outcome if outcome != 'failed' else 'FAILED':<11} {host_names(hosts)}: {task.name} ({took})"
        for outcome in _SHOWN
        if (hosts := task.hosts(outcome))
    ]
    if not lines and task.seconds(task.started) > LONG and (hosts := task.hosts("ok")):
        lines.append(f"   {'ok':<11} {host_names(hosts)}: {task.name} ({took})")
    return lines
