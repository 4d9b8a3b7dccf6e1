"""The command line of scripts/verify."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from vllm_fleet.errors import FleetError
from vllm_fleet.output import print_text, write_report
from vllm_fleet.verify import golden
from vllm_fleet.verify.checks import golden as golden_checks
from vllm_fleet.verify.client import ANSWER_TIMEOUT
from vllm_fleet.verify.endpoint import Endpoint, parse_endpoints
from vllm_fleet.verify.outcome import Outcome, Status
from vllm_fleet.verify.questions import Questions, load_questions
from vllm_fleet.verify.report import MAX_WIDTH, as_html, as_json, as_junit, as_text, quantity
from vllm_fleet.verify.run import Listener, checks_for, verify

PASSED, FAILED, COULD_NOT_RUN = 0, 1, 2


def build_parser() -> argparse.ArgumentParser:
    """The parser."""
    parser = argparse.ArgumentParser(
        prog="scripts/verify",
        description="Ask every model server real questions and judge the answers.",
        epilog="Exit status: 0 all right, 1 a check failed, 2 could not run.",
        allow_abbrev=False,
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument("-i", "--inventory", metavar="PATH", help="whose servers to ask; default: that of ansible.cfg")
    source.add_argument("--endpoints", metavar="FILE", help="the servers as JSON instead; - reads standard input")
    parser.add_argument("--questions", type=Path, metavar="FILE", help="questions to add to the built-in ones (YAML)")
    recorded = parser.add_mutually_exclusive_group()
    recorded.add_argument(
        "--golden", type=Path, metavar="FILE", help="vectors and scores recorded before must still be got"
    )
    recorded.add_argument("--record-golden", type=Path, metavar="FILE", help="record them, where every check passed")
    parser.add_argument("--timeout", type=_seconds, default=ANSWER_TIMEOUT, metavar="SECONDS", help="for one answer")
    parser.add_argument("--json", action="store_true", help="print the report as JSON instead of a table")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the report as JSON to a file as well")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write the report as one web page to a file as well")
    parser.add_argument("--junit", type=Path, metavar="FILE", help="write the report as JUnit XML to a file as well")
    return parser


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError("must be above 0")
    return value


def read_endpoints(file: str | None, inventory: str | None) -> list[Endpoint]:
    """The endpoints of a JSON file, of standard input (`-`), or of an inventory.

    Raises:
        FleetError: they cannot be had.
    """
    if file == "-":
        return parse_endpoints(sys.stdin.read(), "standard input")
    if file is not None:
        try:
            text = Path(file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise FleetError(f"The endpoints cannot be read from {file}: {error}.") from None
        return parse_endpoints(text, file)
    from vllm_fleet import inventory as ansible

    return parse_endpoints(json.dumps(ansible.endpoints(inventory)), f"inventory {inventory or 'of ansible.cfg'}")


def main(argv: Sequence[str] | None = None) -> int:
    """Verify and report. Returns the exit status."""
    options = build_parser().parse_args(argv)
    try:
        questions = load_questions(options.questions)
        if options.golden:
            questions = replace(questions, golden=golden.read(options.golden))
        endpoints = read_endpoints(options.endpoints, options.inventory)
        with _progress(endpoints, questions) as listener:
            verification = verify(endpoints, questions, options.timeout, listener)
        if options.record_golden and verification.passed:
            recorded = golden_checks.record(endpoints, questions, options.timeout)
            write_report(options.record_golden, golden.as_json(recorded).encode())
        report = json.dumps(as_json(verification), ensure_ascii=False, indent=2)
        if options.output:
            write_report(options.output, f"{report}\n".encode())
        if options.html:
            write_report(options.html, as_html(verification).encode(errors="replace"))
        if options.junit:
            write_report(options.junit, as_junit(verification))
    except FleetError as error:
        print(f"scripts/verify: {error}", file=sys.stderr)
        return COULD_NOT_RUN
    except KeyboardInterrupt:
        print("scripts/verify: interrupted; nothing is proved.", file=sys.stderr)
        return COULD_NOT_RUN
    width = Console().width if sys.stdout.isatty() else MAX_WIDTH
    print_text(report if options.json else as_text(verification, width))
    return PASSED if verification.passed else FAILED


@contextlib.contextmanager
def _progress(endpoints: Sequence[Endpoint], questions: Questions) -> Iterator[Listener]:
    """A line on the terminal that says how far it is; nothing without a terminal."""
    total = sum(len(checks_for(one, questions)) for one in endpoints)
    counted = dict.fromkeys(Status, 0)
    lock = threading.Lock()
    console = Console(stderr=True, highlight=False)
    asking = f"asking {quantity(len(endpoints), 'endpoint')}"
    with console.status(asking) as line:

        def listener(endpoint: Endpoint, outcome: Outcome) -> None:
            with lock:
                counted[outcome.status] += 1
                failed = f", {counted[Status.FAILED]} failed" if counted[Status.FAILED] else ""
                line.update(f"{asking}: {sum(counted.values())} of {total} checks{failed}")

        yield listener
