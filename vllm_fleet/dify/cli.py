"""The command line of scripts/dify. What it needs comes as JSON by standard input: keys and passwords are in it."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from vllm_fleet.dify.console import Console, Login, require_supported
from vllm_fleet.dify.register import register
from vllm_fleet.dify.sheet import as_markdown, make_sheet
from vllm_fleet.errors import FleetError
from vllm_fleet.output import print_text

DONE, FAILED = 0, 1
_OPTIONS = ("key_name", "ca_file", "inventory")


def build_parser() -> argparse.ArgumentParser:
    """The parser."""
    parser = argparse.ArgumentParser(
        prog="scripts/dify",
        description="Say what to enter in Dify, or enter it. playbooks/dify.yml does both, and knows what to hand in.",
        epilog="Exit status: 0 done, 1 not done.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    sheet = commands.add_parser(
        "sheet", help='print the sheet; reads {"plan": ..., "key_name": "", "ca_file": null, "inventory": ""}'
    )
    sheet.add_argument("--json", action="store_true", help="as JSON instead of Markdown")
    enter = commands.add_parser(
        "register",
        help='reads {"sheet": ..., "api_key": "", "login": {"url": ...}, "defaults": false, "force": false}',
    )
    enter.add_argument("--check", action="store_true", help="change nothing, say what would be")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Do as told; return the exit status."""
    options = build_parser().parse_args(arguments)
    try:
        given = _given(sys.stdin.read())
        if options.command == "sheet":
            sheet = make_sheet(given["plan"], **{key: given[key] for key in _OPTIONS if key in given})
            print_text(json.dumps(sheet, indent=2, ensure_ascii=False) if options.json else as_markdown(sheet).rstrip())
        else:
            print_text(json.dumps(_register(given, options.check), ensure_ascii=False))
    except FleetError as error:
        print(error, file=sys.stderr)
        return FAILED
    except KeyError as missing:
        print(f"scripts/dify {options.command}: {missing} is missing in what came by standard input.", file=sys.stderr)
        return FAILED
    return DONE


def _given(text: str) -> Mapping[str, Any]:
    try:
        given = json.loads(text)
    except ValueError:
        given = None
    if not isinstance(given, dict):
        raise FleetError("Standard input must hold a JSON object: see scripts/dify --help.")
    return given


def _register(given: Mapping[str, Any], check: bool) -> dict[str, Any]:
    known = {one.name for one in fields(Login)}
    login = Login(**{key: value for key, value in given["login"].items() if key in known})
    console = Console(login, [given["api_key"]])
    version = console.version()
    require_supported(version, login.url, bool(given.get("force")))
    console.log_in()
    changes = register(console, given["sheet"], given["api_key"], bool(given.get("defaults")), check)
    return {"version": version, "changed": bool(changes), "changes": changes}
