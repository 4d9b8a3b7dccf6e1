"""Run the machine's tools; what they complain about becomes one sentence."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from vllm_fleet.errors import FleetError


def run(command: Sequence[str], *, stdin: str | None = None, timeout: float = 120) -> str:
    """Return what `command` prints.

    Args:
        command: program and arguments.
        stdin: text for its standard input.
        timeout: seconds after which it counts as failed.

    Raises:
        FleetError: it is missing, failed, or took too long; the message holds its last line of complaint.
    """
    shown = " ".join(command)
    try:
        # A session of its own: Ctrl-C reaches this program only, which then cleans up in order.
        done = subprocess.run(
            command, input=stdin, capture_output=True, text=True, timeout=timeout, check=False, start_new_session=True
        )
    except FileNotFoundError:
        raise FleetError(f"The program '{command[0]}' is missing on this machine.") from None
    except subprocess.TimeoutExpired:
        raise FleetError(f"'{shown}' did not end within {timeout:.0f} s.") from None
    if done.returncode:
        complaint = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
        raise FleetError(f"'{shown}' failed with status {done.returncode}: {complaint}")
    return done.stdout


def succeeds(command: Sequence[str], *, timeout: float = 30) -> bool:
    """Whether `command` exists and exits with status 0; prints nothing."""
    try:
        run(command, timeout=timeout)
    except FleetError:
        return False
    return True
