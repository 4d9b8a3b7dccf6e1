"""Say what is being done and for how long: one live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

console = Console(stderr=True, highlight=False)

_COLUMNS = (
    SpinnerColumn(),
    TextColumn("lab: {task.description}", markup=False),
    TimeElapsedColumn(),
    TextColumn("{task.fields[detail]}", markup=False, style="dim"),
)
_DETAIL_WIDTH = 60


@contextmanager
def step(title: str) -> Iterator[Callable[[str], None]]:
    """Show `title` while the block runs, then its duration; the yielded function adds a detail on a terminal."""
    start = time.monotonic()
    if console.is_terminal:
        with Progress(*_COLUMNS, console=console, transient=True) as progress:
            task = progress.add_task(title, total=None, detail="")
            yield lambda detail: progress.update(task, detail=detail[:_DETAIL_WIDTH])
    else:
        say(f"{title} ...")
        yield lambda detail: None
    say(f"{title}: done in {time.monotonic() - start:.1f} s")


def say(text: str) -> None:
    """Print one line for the operator."""
    console.print(f"lab: {text}", markup=False, soft_wrap=True)
