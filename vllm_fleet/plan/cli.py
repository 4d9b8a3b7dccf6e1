"""The command line of scripts/plan."""

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
from vllm_fleet.plan.cards import hypothetical
from vllm_fleet.plan.report.hosts import Report, from_json
from vllm_fleet.plan.report.html import as_html
from vllm_fleet.plan.report.svg import as_svg
from vllm_fleet.plan.report.text import as_text
from vllm_fleet.plan.report.text_bars import ASCII

PLANNED, REFUSED, COULD_NOT_RUN = 0, 1, 2


def build_parser() -> argparse.ArgumentParser:
    """The parser."""
    parser = argparse.ArgumentParser(
        prog="scripts/plan",
        description="Show what goes on which GPU, what vLLM is passed, and what a run would change, on all hosts at "
        "once; or every reason why a declaration cannot be served. Changes nothing.",
        epilog="Exit status: 0 there is a plan for every host (there may be warnings), 1 a host was refused, 2 could "
        "not look. How to read it: docs/plan.md.",
        allow_abbrev=False,
    )
    inventory.add_options(parser)
    parser.add_argument(
        "--what-if",
        type=_gpus,
        metavar="gpus=4xL40S",
        help="plan as if each host had these GPUs; hosts are not contacted, and need not exist",
    )
    parser.add_argument("--json", action="store_true", help="print the plans as JSON instead of bars")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write them as JSON to a file as well")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write them as one web page to a file as well")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="write the bars as a picture to a file as well")
    return parser


def _gpus(text: str) -> str:
    """Return the GPUs of ``gpus=4xL40S``; the key may be left out."""
    key, joined, gpus = text.rpartition("=")
    if joined and key != "gpus":
        raise argparse.ArgumentTypeError(f"only gpus can be others, such as gpus=4xL40S; found {key}")
    try:
        hypothetical(gpus)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return gpus.strip()


def main(argv: Sequence[str] | None = None) -> int:
    """Plan and report. Returns the exit status."""
    options = build_parser().parse_args(argv)
    more = inventory.playbook_options(options)
    if options.what_if is not None:
        more += ["-e", json.dumps({"serving_plan_what_if": options.what_if})]
    try:
        with Console(stderr=True, highlight=False).status("planning all hosts"):
            found = inventory.plan(options.inventory, more)
        report = from_json(found)
        as_json = json.dumps(found, ensure_ascii=False, indent=2)
        if options.output:
            write_report(options.output, f"{as_json}\n".encode())
        if options.html:
            write_report(options.html, as_html(report).encode(errors="replace"))
        if options.svg:
            write_report(options.svg, as_svg(report).encode(errors="replace"))
    except FleetError as error:
        print(f"scripts/plan: {error}", file=sys.stderr)
        return COULD_NOT_RUN
    except KeyboardInterrupt:
        print("scripts/plan: interrupted.", file=sys.stderr)
        return COULD_NOT_RUN
    print_text(as_json if options.json else _shown(report))
    return REFUSED if report.refused else PLANNED


def _shown(report: Report) -> str:
    """Return the report as fits standard output: its width, its encoding, and colours on a terminal that has them."""
    console = Console()
    terminal = console.is_terminal
    return as_text(
        report,
        width=console.width if terminal else None,
        colour=terminal and not console.no_color and console.color_system is not None,
        ascii_only=not _encodable("".join(map(chr, ASCII))),
    )


def _encodable(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
