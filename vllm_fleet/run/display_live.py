"""A run on a terminal: a few lines that keep themselves up to date, and one line left behind by each finished stage."""

import time

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from vllm_fleet.run.display import attempts, duration, host_names, slow_hint, stage_title, tasks_done
from vllm_fleet.run.events import RunState
from vllm_fleet.run.logs import History

REFRESHES = 4  # per second
MOST_ATTEMPTS = 4  # hosts whose retries are shown at once


class LiveDisplay:
    """Draws from the latest state in a thread of rich; an event only replaces the state."""

    def __init__(self, console: Console, plays: int | None, history: History) -> None:
        self._console = console
        self._plays = plays
        self._history = history
        self._state = RunState()
        self._began = time.time()
        self._note = ""
        utf8 = console.encoding.lower().startswith("utf")
        self._spinner = Spinner("dots" if utf8 else "line", style="cyan")
        self._done, self._failed, self._stopped = ("✔", "✘", "■") if utf8 else ("ok", "!!", "--")
        self._live = Live(
            console=console, get_renderable=self._draw, refresh_per_second=REFRESHES, transient=True, auto_refresh=True
        )

    def start(self) -> None:
        """Begin drawing."""
        self._began = time.time()
        self._live.start()

    def stop(self) -> None:
        """Take the moving lines away; the lines of the stages stay."""
        if self._state.stage:
            self._leave_stage(self._state.stage, self._state)
        self._live.stop()

    def notice(self, text: str) -> None:
        """Show `text` under the moving lines from now on."""
        self._note = text

    def tick(self, state: RunState, now: float) -> None:
        """Nothing: the thread draws."""

    def update(self, before: RunState, after: RunState) -> None:
        """Take over the new state; a stage that has ended and a failure leave a line behind."""
        self._state = after
        if before.stage and after.stages_started > before.stages_started:
            self._leave_stage(before.stage, after)
        for failure in after.failures[len(before.failures) :]:
            what = "unreachable" if failure.unreachable else "failed"
            self._print(f"{self._failed} {failure.host}: {failure.task}: {what}", "red")

    def _leave_stage(self, stage: str, state: RunState) -> None:
        unfinished = [task for task in (state.task,) if task and task.stage == stage]
        tasks = [*(task for task in state.finished if task.stage == stage), *unfinished]
        changed = sum(1 for task in tasks if task.hosts("changed"))
        took = duration(sum(task.seconds(state.now) for task in tasks))
        if any(task.hosts("failed", "unreachable") for task in tasks):
            mark, style = self._failed, "red"
        elif unfinished:
            mark, style = self._stopped, "yellow"
        else:
            mark, style = self._done, "green"
        count = f"{len(tasks)} task{'s' if len(tasks) != 1 else ''}"
        self._print(f"{mark} {stage}: {count}, {changed} with changes, {took}", style)

    def _print(self, line: str, style: str) -> None:
        self._console.print(Text(line, style=style, no_wrap=True, overflow="ellipsis"))

    def _draw(self) -> RenderableType:
        return draw(self._state, time.time(), self._began, self._plays, self._history, self._spinner, self._note)


def draw(
    state: RunState,
    now: float,
    began: float,
    plays: int | None,
    history: History,
    spinner: RenderableType = "",
    note: str = "",
) -> RenderableType:
    """The moving lines for `state` at time `now` of a run that began at `began` (both in seconds since the epoch)."""
    head = Table.grid(expand=True, padding=(0, 1))
    head.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    head.add_column(justify="right", no_wrap=True)
    title = stage_title(state, plays) if state.stage else "Ansible is reading the playbook and the inventory"
    head.add_row(Text(title, style="bold"), Text(f"{tasks_done(state, history)}, {duration(now - began)}", style="dim"))
    lines: list[RenderableType] = [head]
    if task := state.task:
        body = Table.grid(expand=True, padding=(0, 1))
        body.add_column(width=2)
        body.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
        body.add_column(justify="right", no_wrap=True)
        hosts = f"{host_names(task.pending)}: " if task.pending else ""
        body.add_row(spinner, Text(f"{hosts}{task.name}"), Text(duration(task.seconds(now))))
        retries = attempts(task)
        for line in retries[:MOST_ATTEMPTS]:
            body.add_row("", Text(line, style="cyan"), "")
        if len(retries) > MOST_ATTEMPTS:
            body.add_row("", Text(f"and {len(retries) - MOST_ATTEMPTS} more hosts", style="cyan"), "")
        lines.append(body)
        if hint := slow_hint(task, now, history):
            lines.append(Padding(Text(hint, style="dim"), (0, 0, 0, 3)))
    if note:
        lines.append(Text(note, style="yellow"))
    # The margin takes the ^C that a terminal echoes at the end of the last line; there it must not begin a new one.
    return Padding(Group(*lines), (0, 3, 0, 0))
