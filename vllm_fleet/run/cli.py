"""The command line of scripts/deploy."""

import argparse
import getpass
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from vllm_fleet.errors import FleetError
from vllm_fleet.run.arguments import without_values
from vllm_fleet.run.display import Display
from vllm_fleet.run.display_live import LiveDisplay
from vllm_fleet.run.display_plain import PlainDisplay
from vllm_fleet.run.logs import RUNS, History
from vllm_fleet.run.playbook import CHECKOUT
from vllm_fleet.run.runner import run_playbook
from vllm_fleet.run.summary import print_summary

_RUNS_NOTHING = frozenset({"--syntax-check", "--list-tasks", "--list-tags", "--list-hosts", "--version"})
PLAIN_WIDTH = 120  # columns where there is no terminal

# Options of ansible-playbook that are known here; any other can stand after `--`.
_WITH_VALUE = (
    ("-l", "--limit", "PATTERN", "only these hosts"),
    ("-t", "--tags", "TAGS", "only tasks with these tags"),
    ("", "--skip-tags", "TAGS", "no tasks with these tags"),
    ("-e", "--extra-vars", "VARS", "a variable (name=value), JSON, or @file; files keep secrets out of `ps`"),
    ("-f", "--forks", "N", "how many hosts at a time"),
    ("-u", "--user", "NAME", "log in as this user"),
    ("", "--private-key", "FILE", "log in with this key"),
    ("", "--start-at-task", "NAME", "begin at this task"),
    ("", "--vault-password-file", "FILE", "decrypt vaults with this"),
)
_SWITCHES = (
    ("-C", "--check", "change nothing, say what would change"),
    ("-D", "--diff", "show what changes in files"),
    ("-b", "--become", "become root on the hosts (sudo)"),
)
# Prompts that Ansible makes, asked here before the run, since there is no one to answer during it.
_PROMPTS = (
    ("-K", "--ask-become-pass", "BECOME password", r"BECOME password.*:\s*$"),
    ("-k", "--ask-pass", "SSH password", r"SSH password:\s*$"),
    ("-J", "--ask-vault-pass", "Vault password", r"Vault password.*:\s*$"),
)


class _Console(Console):
    """A console whose exit status does not depend on somebody reading it (`scripts/deploy | head`)."""

    def on_broken_pipe(self) -> None:
        """Write no more, and leave Python nothing to complain about on its way out."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def build_parser() -> argparse.ArgumentParser:
    """The parser; what stands after `--` is not its business."""
    parser = argparse.ArgumentParser(
        prog="scripts/deploy",
        usage="%(prog)s [PLAYBOOK] [options] [-- any other option of ansible-playbook]",
        description="Run a playbook with its progress shown. `ansible-playbook site.yml` does the same without.",
        epilog="Exit status: 0 good, 2 failed, 4 host unreachable, 3 outcome unknown, 130 interrupted; "
        "others are ansible-playbook's own.",
        allow_abbrev=False,
    )
    parser.add_argument("playbook", nargs="?", default="site.yml", metavar="PLAYBOOK", help="default: site.yml")
    parser.add_argument(
        "-i", "--inventory", action="append", default=[], metavar="PATH", help="default: the one in ansible.cfg"
    )
    for short, long, metavar, text in _WITH_VALUE:
        parser.add_argument(*filter(None, (short, long)), action="append", default=[], metavar=metavar, help=text)
    for short, long, text in _SWITCHES:
        parser.add_argument(short, long, action="store_true", help=text)
    for short, long, asked, _ in _PROMPTS:
        parser.add_argument(short, long, action="store_true", help=f"ask for the {asked} before the run")
    parser.add_argument("-v", "--verbose", action="count", default=0, help="more in the log; repeat for more still")
    parser.add_argument(
        "--logs", type=Path, default=RUNS, metavar="DIR", help="default: .vllm-fleet/runs in the checkout"
    )
    parser.add_argument("--plain", action="store_true", help="lines instead of the live display")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run and report. Returns the exit status."""
    argv = list(sys.argv[1:] if argv is None else argv)
    own, rest = argv, []
    if "--" in argv:
        cut = argv.index("--")
        own, rest = argv[:cut], argv[cut + 1 :]
    options = build_parser().parse_args(own)
    if idle := _RUNS_NOTHING.intersection(rest):
        print(f"scripts/deploy: {min(idle)} runs nothing: give it to ansible-playbook.", file=sys.stderr)
        return 2
    console = _Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console = _Console(highlight=False, markup=False, emoji=False, width=PLAIN_WIDTH)
    live = console.is_terminal and not console.is_dumb_terminal and not options.plain

    def display(plays: int | None, history: History) -> Display:
        return LiveDisplay(console, plays, history) if live else PlainDisplay(plays, history)

    try:
        args, passwords = _ansible_arguments(options)
        inventory = [find_inventory(source, Path.cwd()) for source in options.inventory]
        result = run_playbook(
            options.playbook,
            inventory,
            [*args, *rest],
            display=display,
            passwords=passwords,
            runs=options.logs.absolute(),
        )
    except FleetError as error:
        print(f"scripts/deploy: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    print_summary(console, result, retry_command(argv, Path.cwd()), check=options.check)
    return result.exit_code


def _ansible_arguments(options: argparse.Namespace) -> tuple[list[str], dict[str, str]]:
    """The options for ansible-playbook, and its password prompts with their answers."""
    args: list[str] = []
    passwords: dict[str, str] = {}

    def value(long: str) -> object:
        return getattr(options, long.lstrip("-").replace("-", "_"))

    for _, long, _, _ in _WITH_VALUE:
        values = value(long)
        for text in values if isinstance(values, list) else []:
            args += [long, text]
    args += [long for _, long, _ in _SWITCHES if value(long)]
    for _, long, asked, pattern in _PROMPTS:
        if value(long):
            args.append(long)
            passwords[pattern] = getpass.getpass(f"{asked}: ")
    if options.verbose:
        args.append(f"-{'v' * options.verbose}")
    return args, passwords


def find_inventory(source: str, cwd: Path) -> str:
    """The inventory `source`, absolute where it is a path, taken from `cwd` or else from the checkout."""
    if "," in source:
        return source
    found = next((place for place in (cwd / source, CHECKOUT / source) if place.exists()), None)
    if found is None:
        raise FleetError(f"There is no inventory {source!r}, neither in {cwd} nor in {CHECKOUT}.")
    return str(found.resolve())


def retry_command(argv: Sequence[str], cwd: Path) -> str:
    """The command that runs the same again, to be copied; values of variables are not repeated."""
    script = CHECKOUT / "scripts" / "deploy"
    name = f"{script.relative_to(cwd)}" if script.is_relative_to(cwd) else str(script)
    return shlex.join([name, *without_values(argv)])
