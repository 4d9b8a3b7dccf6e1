"""Wrappers over the stub, ended after each test."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.notify.wrapped import Wrapped


@pytest.fixture
def wrap(tmp_path: Path) -> Iterator[Callable[..., Wrapped]]:
    made: list[Wrapped] = []

    def make(*options: str, name: str = "", **how: Any) -> Wrapped:
        made.append(Wrapped(tmp_path / (name or str(len(made))), *options, **how))
        return made[-1]

    yield make
    for wrapped in made:
        if wrapped.process.poll() is None:
            child = wrapped.child()
            os.kill(child, signal.SIGKILL)
            wrapped.process.wait(15)
        wrapped.socket.close()
