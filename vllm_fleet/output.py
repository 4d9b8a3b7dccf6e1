"""What commands print and write, whatever reads it."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

from vllm_fleet.errors import FleetError


def print_text(text: str) -> None:
    """Print, whatever the terminal's encoding and whether or not somebody reads to the end (`| head`)."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def write_report(file: Path, content: bytes) -> None:
    """Write a report, and the directories it lies in.

    Raises:
        FleetError: it cannot be written.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    except OSError as error:
        raise FleetError(f"The report cannot be written to {file}: {error.strerror or error}.") from None
