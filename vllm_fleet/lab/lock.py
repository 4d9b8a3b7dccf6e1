"""Locks between processes that leave no file behind."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LOCKS = Path("/run/lock")


@contextmanager
def locked(name: str, waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold the machine-wide lock `name`; it is free again when this process ends, however it ends.

    Args:
        name: of the lock, part of a file name.
        waiting: called once when somebody else holds the lock.
    """
    LOCKS.mkdir(parents=True, exist_ok=True)
    path = LOCKS / f"vllm-fleet-lab-{name}.lock"
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if waiting:
                waiting()
                waiting = None
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        # The holder before removed the file: what was locked here is not what the next one will find.
        with suppress(FileNotFoundError):
            if os.fstat(descriptor).st_ino == path.stat().st_ino:
                break
        os.close(descriptor)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)
