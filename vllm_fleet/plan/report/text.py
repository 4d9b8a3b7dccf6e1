"""The report for a terminal or a log: how all hosts stand first, then the bars and servers of each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Column, Table
from rich.text import Text

from vllm_fleet.plan.report.bars import bars
from vllm_fleet.plan.report.hosts import HostReport, Report, alike, summary
from vllm_fleet.plan.report.text_bars import ASCII, draw, legend
from vllm_fleet.plan.report.words import (
    OVERVIEW_HEADINGS,
    SERVER_HEADINGS,
    assumption,
    command,
    devices,
    names,
    overview_cells,
    sentence,
    server_cells,
)

# Where no terminal says how wide it is, bars are drawn for this width and sentences are not broken.
WIDTH = 120
UNBROKEN = 10_000
_SEVERITY = {"error": "bold red", "warning": "yellow"}
_EFFECT = {"starts": "green", "restarts": "yellow", "stops": "red", "keeps running": "dim"}


def as_text(report: Report, width: int | None = None, colour: bool = False, ascii_only: bool = False) -> str:
    """Return the report. No line ends in blanks.

    Args:
        report: all hosts.
        width: columns of the terminal; None if it goes elsewhere, where sentences are better searched unbroken.
        colour: with the escape sequences of a terminal.
        ascii_only: for an encoding that lacks block characters.
    """
    console = Console(
        width=width or UNBROKEN,
        color_system="standard" if colour else None,
        force_terminal=colour,
        markup=False,
        highlight=False,
        emoji=False,
    )
    with console.capture() as capture:
        for part in _parts(report, min(width or WIDTH, WIDTH)):
            console.print(part)
    text = "\n".join(line.rstrip() for line in capture.get().splitlines())
    return text.translate(ASCII) if ascii_only else text


def _parts(report: Report, width: int) -> Iterator[RenderableType]:
    groups = alike(report.hosts)
    if len(groups) > 1:
        yield _overview(groups)
        yield ""
    if any(bars(host.plan) for host in report.hosts if host.plan):
        yield legend()
        yield ""
    for group in groups:
        yield from _group(group, width, report.what_if)
        yield ""
    yield Text(summary(report), style="bold")


def _overview(groups: Sequence[Sequence[HostReport]]) -> Table:
    """Return a line for each group of hosts that are alike."""
    table = _table(*OVERVIEW_HEADINGS)
    for group in groups:
        table.add_row(names(group), *overview_cells(group[0]), style=None if group[0].plan else _SEVERITY["error"])
    return table


def _group(group: Sequence[HostReport], width: int, what_if: str) -> Iterator[RenderableType]:
    host = group[0]
    heading = names(group) + (f": {devices(host.plan)}" if host.plan else "")
    yield Text(heading, style="bold")
    remarks = [
        (Text(problem["severity"], _SEVERITY[problem["severity"]]), sentence(problem))
        for problem in sorted(host.problems, key=lambda one: one["severity"] != "error")
    ]
    if host.plan and host.plan["assumed"]:
        remarks.append((Text("assumed", "yellow"), assumption(host.plan, what_if)))
    if remarks:
        yield _hanging(remarks)
    if host.plan is None:
        return
    if found := bars(host.plan):
        yield ""
        yield from draw(found, width, on_processors=host.plan["backend"] == "cpu")
    yield ""
    yield from _servers(host.plan, width)
    yield ""
    yield Text(" passed to vLLM", style="bold")
    yield _hanging((Text(server["name"]), command(server)) for server in host.plan["servers"])
    if host.differences is not None:
        yield ""
        yield Text(" against what runs now", style="bold")
        yield _hanging((Text(one.server, _EFFECT[one.effect]), str(one)) for one in host.differences)


def _servers(plan: Mapping[str, Any], width: int) -> Iterator[RenderableType]:
    """Yield the servers as a table, or where that is too wide as a sentence each."""
    rows = [server_cells(server) for server in plan["servers"]]
    sizes = [max(map(len, column)) for column in zip(SERVER_HEADINGS, *rows, strict=True)]
    if sum(sizes) + len(" | ") * len(sizes) < width:
        table = _table(*SERVER_HEADINGS)
        for row in rows:
            table.add_row(*row)
        yield Padding(table, (0, 0, 0, 1))
    else:
        yield _hanging((Text(name), _said(cells)) for name, *cells in rows)


def _said(cells: Sequence[str]) -> str:
    named = zip(SERVER_HEADINGS[1:], cells, strict=True)
    return ", ".join(f"{heading} {cell}" for heading, cell in named if cell != "-")


def _hanging(rows: Iterable[tuple[Text, str]]) -> Table:
    """Return labels with sentences whose further lines stand below their beginnings."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for label, text in rows:
        grid.add_row(Text("  ") + label, Text(text))
    return grid


def _table(*headings: str) -> Table:
    columns = [Column(heading, overflow="fold") for heading in headings]
    return Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
