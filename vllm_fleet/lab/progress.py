"""Say what is being done and for how long: one live line on a terminal, one line per finished step elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console

console = Console(stderr=True, highlight=False)


@contextmanager
def step(title: str) -> Iterator[Callable[[str], None]]:
    """Show `title` while the block runs, then its duration; the yielded function adds a detail on a terminal."""
    start = time.monotonic()
    if not console.is_terminal:
        console.print(f"lab: {title} ...", markup=False)
        yield lambda detail: None
    else:
        with console.status(title) as status:
            yield lambda detail: status.update(f"{title} [dim]{time.monotonic() - start:.0f} s {detail[:60]}[/dim]")
    console.print(f"lab: {title}: done in {time.monotonic() - start:.1f} s", markup=False, soft_wrap=True)


def say(text: str) -> None:
    """Print one line for the operator."""
    console.print(f"lab: {text}", markup=False, soft_wrap=True)
