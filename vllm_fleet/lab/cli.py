"""The command line of the lab."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import sys
from dataclasses import asdict

from rich.console import Console
from rich.table import Table

from vllm_fleet.errors import FleetError
from vllm_fleet.lab import host, operations, preflight, state, wanted
from vllm_fleet.lab.settings import DEFAULT_CACHE, DEFAULT_PREFIX, DEFAULT_STATE, Settings, from_environment

_DESCRIPTION = """\
Make hosts to deploy to on this very machine: systemd-nspawn containers that boot a plain Debian 12 with a systemd,
an sshd and an address of their own. Needs root, no Docker, no GPU.

  scripts/lab up                      one host, lab-1 (half a minute the first time, then 2 s)
  scripts/lab up lab-1 lab-2 lab-3    as many as named; those that are up stay as they are
  scripts/lab up --group clients      one host to try the servers from, client-1; nothing is deployed to it
  scripts/lab up --group gateways     one host for the gateway alone, gateway-1
  scripts/lab exec lab-1 -- nproc     run a command in it
  scripts/lab down                    remove all hosts, their network, keys and files
"""
_EPILOG = f"""\
environment:
  VLLM_FLEET_LAB        the lab's prefix when --prefix is not given (default {DEFAULT_PREFIX}); labs with different
                        prefixes live side by side
  VLLM_FLEET_LAB_STATE  directory of the hosts' filesystems, not itself on an overlay
                        (default {DEFAULT_STATE})
  VLLM_FLEET_CACHE      directory of base images and downloaded packages, shared by all labs
                        (default {DEFAULT_CACHE})
  VLLM_FLEET_LAB_DNS    name servers for the hosts (default: this machine's)

exit status: 0 done; 2 not possible, one sentence says why; 130 interrupted; of exec, that of the command.
More: docs/lab.md
"""


def main(arguments: list[str] | None = None) -> int:
    """Run `scripts/lab`; returns the exit status."""
    options = _parser().parse_args(arguments)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    # A shell opened with plain `su` lacks the directories of ip and nft.
    os.environ["PATH"] = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
    try:
        return int(options.run(options, from_environment(os.environ, options.prefix)))
    except FleetError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"lab: {error.strerror or error}: {error.filename or 'this machine'}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("lab: interrupted. What was begun is taken over by the next 'up' and removed by 'down'.", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = argparse.ArgumentParser(
        "scripts/lab", description=_DESCRIPTION, epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--prefix", metavar="NAME", help="which lab (default: $VLLM_FLEET_LAB or 'fleet')")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("up", help="make and start hosts; does nothing to those that are up")
    command.add_argument("names", nargs="*", metavar="NAME", help="default: all hosts there are, or lab-1")
    command.add_argument(
        "--group",
        choices=list(wanted.GROUPS),
        default="",
        help=f"new hosts are in this group of the inventory (default {state.GPU_HOSTS}); "
        "without names: all hosts of the group, or one",
    )
    command.add_argument(
        "--fake-gpus", metavar="HOST", default="", help="new hosts pretend to have the GPUs of tests/hosts/HOST.yml"
    )
    command.set_defaults(run=_up)

    command = commands.add_parser("down", help="remove hosts; without names the whole lab")
    command.add_argument("names", nargs="*", metavar="NAME")
    command.add_argument("--purge", action="store_true", help="remove base images and downloads, too")
    command.set_defaults(run=_down)

    command = commands.add_parser("status", help="list the hosts; exit status 0 if all are running, else 1")
    command.add_argument("--json", action="store_true", help="for programs")
    command.set_defaults(run=_status)

    command = commands.add_parser("ssh", help="open a shell in a host")
    command.add_argument("name", metavar="NAME")
    command.set_defaults(run=_ssh)

    command = commands.add_parser("exec", help="run a command in a host: exec NAME -- COMMAND...")
    command.add_argument("name", metavar="NAME")
    command.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND")
    command.set_defaults(run=_exec)

    command = commands.add_parser("reboot", help="reboot a host and wait for it")
    command.add_argument("name", metavar="NAME")
    command.set_defaults(run=_reboot)

    command = commands.add_parser("preflight", help="say whether this machine can hold a lab, changing nothing")
    command.add_argument("--json", action="store_true", help="for programs")
    command.add_argument("--packages", action="store_true", help="print only the missing Debian packages, on one line")
    command.set_defaults(run=_preflight)
    return parser


def _up(options: argparse.Namespace, settings: Settings) -> int:
    operations.up(settings, options.names, options.fake_gpus, options.group)
    return 0


def _down(options: argparse.Namespace, settings: Settings) -> int:
    if options.purge and options.names:
        raise FleetError("--purge is for the whole lab. Run: scripts/lab down --purge")
    operations.down(settings, options.names)
    if options.purge:
        operations.purge(settings)
    return 0


def _status(options: argparse.Namespace, settings: Settings) -> int:
    found = operations.status(settings)
    if options.json:
        print(json.dumps([{**asdict(one.host), "condition": one.condition} for one in found], indent=2))
    elif not found:
        print(f"The lab '{settings.prefix}' is not up. Run: {settings.command('up')}")
    else:
        Console().print(_table(found))
    return 0 if found and all(one.condition == "running" for one in found) else 1


def _table(found: list[operations.HostStatus]) -> Table:
    """Return the hosts as a table, with columns for what is unusual only where a host has it."""
    columns = {
        "host": [one.host.name for one in found],
        "group": [one.host.group for one in found],
        "address": [one.host.address for one in found],
        "condition": [one.condition for one in found],
        "base image": [one.host.image.rpartition("/")[2] for one in found],
        "fake GPUs": [one.host.fake_gpus for one in found],
    }
    if set(columns["group"]) == {state.GPU_HOSTS}:
        del columns["group"]
    if not any(columns["fake GPUs"]):
        del columns["fake GPUs"]
    table = Table(*columns, box=None)
    for row in zip(*columns.values(), strict=True):
        table.add_row(*row)
    return table


def _ssh(options: argparse.Namespace, settings: Settings) -> int:
    command = host.ssh_command(settings, operations.find(settings, options.name))
    os.execvp(command[0], command)  # noqa: S606  # the terminal belongs to ssh from here on


def _exec(options: argparse.Namespace, settings: Settings) -> int:
    words = options.command[1:] if options.command[:1] == ["--"] else options.command
    if not words:
        raise FleetError("exec needs a command. Run: scripts/lab exec NAME -- COMMAND...")
    command = [*host.ssh_command(settings, operations.find(settings, options.name)), shlex.join(words)]
    sys.stdout.flush()
    os.execvp(command[0], command)  # noqa: S606  # the terminal belongs to ssh from here on


def _reboot(options: argparse.Namespace, settings: Settings) -> int:
    operations.reboot(settings, options.name)
    return 0


def _preflight(options: argparse.Namespace, settings: Settings) -> int:
    if options.packages:
        print(*preflight.missing_packages())
        return 0
    found = preflight.findings(settings)
    if options.json:
        print(
            json.dumps({"packages": preflight.missing_packages(), "findings": [asdict(one) for one in found]}, indent=2)
        )
    else:
        print(*(map(str, found) if found else ["This machine can hold a lab."]), sep="\n")
    return 2 if found else 0
