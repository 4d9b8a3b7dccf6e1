"""The command line of scripts/preflight."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from vllm_fleet import inventory
from vllm_fleet.errors import FleetError
from vllm_fleet.output import print_text, write_report
from vllm_fleet.preflight.report import as_text, from_json

READY, ERRORS, COULD_NOT_RUN = 0, 1, 2


def build_parser() -> argparse.ArgumentParser:
    """The parser."""
    parser = argparse.ArgumentParser(
        prog="scripts/preflight",
        description="Find everything that would stop a run, on all hosts at once. Changes nothing.",
        epilog="Exit status: 0 nothing would stop the run (there may be warnings), 1 something would, 2 could not "
        "look. Codes and remedies: docs/preflight.md.",
        allow_abbrev=False,
    )
    inventory.add_options(parser)
    parser.add_argument("--json", action="store_true", help="print the findings as JSON instead of a table")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write them as JSON to a file as well")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Look and report. Returns the exit status."""
    options = build_parser().parse_args(argv)
    more = inventory.playbook_options(options)
    try:
        with Console(stderr=True, highlight=False).status("looking at all hosts"):
            found = inventory.preflight(options.inventory, more)
        if options.output:
            report = json.dumps(found, ensure_ascii=False, indent=2)
            write_report(options.output, f"{report}\n".encode())
    except FleetError as error:
        print(f"scripts/preflight: {error}", file=sys.stderr)
        return COULD_NOT_RUN
    except KeyboardInterrupt:
        print("scripts/preflight: interrupted.", file=sys.stderr)
        return COULD_NOT_RUN
    width = Console().width if sys.stdout.isatty() else None
    print_text(json.dumps(found, ensure_ascii=False, indent=2) if options.json else as_text(from_json(found), width))
    return ERRORS if found["errors"] else READY
