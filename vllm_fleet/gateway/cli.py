"""The command line of scripts/gateway-keys."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from vllm_fleet.errors import FleetError
from vllm_fleet.gateway import files, keys
from vllm_fleet.output import print_text

DONE, COULD_NOT = 0, 2


def build_parser() -> argparse.ArgumentParser:
    """The parser."""
    parser = argparse.ArgumentParser(
        prog="scripts/gateway-keys",
        description="Show and rotate the API keys that were generated for a gateway, and find its CA certificate. "
        "Nothing reaches a gateway before the next run of playbooks/gateway.yml.",
        epilog="Rotating a key: rotate, run the playbook, give clients the new secret, retire, run the playbook. "
        "Exit status: 0 done, 2 could not. See docs/gateway-keys.md.",
        allow_abbrev=False,
    )
    place = parser.add_mutually_exclusive_group()
    place.add_argument("-i", "--inventory", metavar="PATH", help="whose gateway; default: inventory/lab")
    place.add_argument(
        "--directory", type=Path, metavar="DIR", help="where its secrets are kept (gateway_secrets_directory)"
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("list", help="name the keys, and how many secrets each has")
    for command, text in (
        ("create", "generate a key that is not kept here; other secrets of it end with the next run"),
        ("show", "print the current secret of a key, and nothing else"),
        ("rotate", "generate a new secret for a key; the former ones stay accepted"),
        ("retire", "drop all secrets of a key but the current one"),
    ):
        commands.add_parser(command, help=text, description=text).add_argument("name", metavar="NAME")
    commands.add_parser(
        "create-ca", help="make a certificate authority where none is kept; clients will need its certificate"
    )
    commands.add_parser("ca", help="print the path of the CA certificate that clients need")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Do what is asked for. Returns the exit status."""
    options = build_parser().parse_args(argv)
    directory = options.directory or files.secrets_directory(options.inventory)
    place = f" -i {shlex.quote(options.inventory)}" if options.inventory else ""
    playbook = f"ansible-playbook playbooks/gateway.yml{place}"
    again = f"scripts/gateway-keys{f' --directory {shlex.quote(str(directory))}' if options.directory else place}"
    commands: dict[str, Callable[[], str]] = {
        "list": lambda: _list(directory),
        "show": lambda: keys.known_key(directory, options.name)[0],
        "create": lambda: _create(directory, options.name, playbook, again),
        "create-ca": lambda: _create_authority(directory, playbook),
        "rotate": lambda: _rotate(directory, options.name, playbook, again),
        "retire": lambda: _retire(directory, options.name, playbook),
        "ca": lambda: _authority(directory, playbook),
    }
    try:
        text = commands[options.command]()
    except FleetError as error:
        print(f"scripts/gateway-keys: {error}", file=sys.stderr)
        return COULD_NOT
    except KeyboardInterrupt:
        print("scripts/gateway-keys: interrupted; each file is as it was, or done.", file=sys.stderr)
        return COULD_NOT
    print_text(text)
    return DONE


def _list(directory: Path) -> str:
    counts = {name: len(keys.known_key(directory, name)) for name in keys.names(directory)}
    if not counts:
        return f"no generated keys in {directory}; playbooks/gateway.yml makes those that have no secret of yours"
    width = max(len(name) for name in counts)
    return "\n".join(
        f"{name:{width}}  {_count(count)}" + (", the first is the current one" if count > 1 else "")
        for name, count in counts.items()
    )


def _create(directory: Path, name: str, playbook: str, again: str) -> str:
    keys.create(directory, name)
    return (
        f"Key {name} is made. A gateway that has other secrets of it accepts them until this has run:\n  {playbook}\n"
        f"Then give clients the new one: {again} show {name}"
    )


def _create_authority(directory: Path, playbook: str) -> str:
    from vllm_fleet.gateway.certificates import create_authority

    file = create_authority(directory)
    return f"Clients need {file}, as soon as this has run:\n  {playbook}"


def _rotate(directory: Path, name: str, playbook: str, again: str) -> str:
    accepted = len(keys.rotate(directory, name)) - 1
    return (
        f"Key {name} has a new secret; {_count(accepted)} from before will still be accepted. Now run:\n"
        f"  {playbook}\n"
        f"Then give clients the new one ({again} show {name}), and when all of them have it: "
        f"{again} retire {name}"
    )


def _retire(directory: Path, name: str, playbook: str) -> str:
    dropped = keys.retire(directory, name)
    if not dropped:
        return f"Key {name} has no secret but the current one; nothing to drop."
    return f"Key {name}: {_count(dropped)} dropped, which the gateway accepts until this has run:\n  {playbook}"


def _authority(directory: Path, playbook: str) -> str:
    file = directory / files.CA_FILE
    if files.read(file) is None:
        raise FleetError(
            f"There is no CA certificate {file}: the gateway has a certificate of yours or none, or was never "
            f"deployed from here. It is made by: {playbook}"
        )
    return str(file)


def _count(secrets: int) -> str:
    return f"{secrets} secret" if secrets == 1 else f"{secrets} secrets"
