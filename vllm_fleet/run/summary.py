"""What is said at the end of a run: per host, what was slow, what the playbook wanted to tell, and the verdict."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from vllm_fleet.run.display import duration, host_names
from vllm_fleet.run.events import Failure, HostCounts, Message
from vllm_fleet.run.runner import RunResult

_HEADLINES = {
    "interrupted": (
        "Interrupted. Nothing is lost: a new run finds what is done and continues there.",
        "bold yellow",
    ),
    "unknown": ("UNKNOWN: it cannot be said whether this run succeeded.", "bold red"),
    "failed": ("FAILED", "bold red"),
    "unreachable": ("UNREACHABLE", "bold red"),
}
SLOWEST = 5
WORTH_NAMING = 1.0  # seconds


def print_summary(console: Console, result: RunResult, retry: str, check: bool = False) -> None:
    """Print the end of a run, the most important last. `retry` is the command that does the same again."""
    for diff in result.diffs:
        _say(console, f"\n{diff.host}: {diff.task}", "dim")
        _say(console, diff.text)
    if result.hosts:
        console.print()
        console.print(hosts_table(result))
    if slowest := slowest_table(result):
        console.print(slowest)
    for warning in result.warnings:
        _say(console, warning, "yellow")
    _print_messages(console, result.debug_messages)
    console.print()
    if result.status == "successful":
        _say(console, _success(result, check), "bold green" if result.hosts else "bold yellow")
        _say(console, f"Full log: {_short(result.log)}", "dim")
        return
    _print_failure(console, result)
    _say(console, f"Full log:  {_short(result.log)}")
    _say(console, f"Try again: {retry}")


def _print_failure(console: Console, result: RunResult) -> None:
    failure = result.failure
    if failure is None:
        headline, style = _HEADLINES[result.status]
        _say(console, headline, style)
        if result.explanation:
            _say(console, result.explanation)
        if result.unfinished:
            _say(console, f"It was at: {result.unfinished.name}. What already runs on a host may still end by itself.")
        _say(console, "")
        return
    _say(console, f"{'UNREACHABLE' if failure.unreachable else 'FAILED'}: {failure.host}", "bold red")
    _say(console, f"Stage:     {failure.stage}")
    _say(console, f"Task:      {failure.task}")
    if failure.path:
        _say(console, f"Defined:   {_short_location(failure.path)}")
    _say(console, f"\n{textwrap.indent(failure.message, '  ')}\n")
    for line in _other_failures(result, failure):
        _say(console, line)


def _other_failures(result: RunResult, main: Failure) -> list[str]:
    """A line for each other task that ended the run for some hosts; the same task on other hosts comes first."""
    hosts: dict[tuple[bool, str], list[str]] = {(True, main.task): []}
    for failure in result.failures:
        counts = result.hosts.get(failure.host, HostCounts())
        if failure.host != main.host and (counts.failed or counts.unreachable):
            here = hosts.setdefault((failure.task == main.task, failure.task), [])
            here += [failure.host] if failure.host not in here else []
    return [
        f"Also failed: {host_names(tuple(names), 10)}, at {'the same task' if same else task}"
        for (same, task), names in hosts.items()
        if names
    ]


def _success(result: RunResult, check: bool) -> str:
    if not result.hosts:
        return result.explanation
    changed = sum(counts.changed for counts in result.hosts.values())
    hosts = f"{len(result.hosts)} host{'s' if len(result.hosts) > 1 else ''}"
    if check:
        would = f"{changed} task{'s' if changed > 1 else ''} would change something" if changed else "nothing to change"
        return f"Checked {hosts} in {duration(result.duration)}; nothing was touched: {would}."
    did = f"{changed} task{'s' if changed > 1 else ''} changed something" if changed else "nothing had to change"
    return f"Done in {duration(result.duration)}: {hosts}, {did}."


def hosts_table(result: RunResult) -> Table:
    """How many tasks ended how, per host; a column that is zero everywhere and rarely matters is left out."""
    shown = ["ok", "changed", "failed", "unreachable", "skipped"]
    shown += [name for name in ("rescued", "ignored") if any(getattr(c, name) for c in result.hosts.values())]
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("host", no_wrap=True)
    for name in shown:
        table.add_column(name, justify="right")
    for host, counts in result.hosts.items():
        bad = counts.failed or counts.unreachable
        style = "red" if bad else "yellow" if counts.changed else "green"
        table.add_row(Text(host, style=style), *(str(getattr(counts, name)) for name in shown))
    return table


def slowest_table(result: RunResult) -> Table | None:
    """The slowest tasks, None if none took long enough to speak of."""
    timed = sorted(result.tasks, key=lambda task: task.seconds(0), reverse=True)
    slow = [task for task in timed[:SLOWEST] if task.seconds(0) >= WORTH_NAMING]
    if not slow:
        return None
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("slowest tasks", justify="right", no_wrap=True)
    table.add_column(f"of {duration(result.duration)} in all", no_wrap=True, overflow="ellipsis")
    for task in slow:
        table.add_row(duration(task.seconds(0)), Text(task.name))
    return table


def _print_messages(console: Console, messages: Sequence[Message]) -> None:
    """Print what tasks told, as it is; a text several hosts share once, and host names where there are several."""
    grouped: dict[tuple[str, str], list[str]] = {}
    for message in messages:
        grouped.setdefault((message.task, message.text), []).append(message.host)
    several = len({message.host for message in messages}) > 1
    for (_, text), hosts in grouped.items():
        console.print()
        if several:
            _say(console, f"{host_names(tuple(hosts))}:", "dim")
        _say(console, text)


def _say(console: Console, text: str, style: str = "") -> None:
    # Text, not a string: square brackets in it are not markup. Lines are never broken: they may be copied.
    console.print(Text(text, style=style), soft_wrap=True)


def _short(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _short_location(location: str) -> str:
    path, _, line = location.rpartition(":")
    return f"{_short(Path(path))}:{line}"
