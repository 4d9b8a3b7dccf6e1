"""Arguments of ansible-playbook: joined for the runner, and shown without what may be secret."""

import shlex
from collections.abc import Sequence
from pathlib import Path

HIDDEN_VALUE = "..."


def join_arguments(args: Sequence[str]) -> str:
    """One string from which the runner's shlex.split gets `args` back."""
    return shlex.join(args)


def without_values(args: Sequence[str]) -> list[str]:
    """`args` with `...` in place of the values of variables given on the command line; names of files stay."""
    shown: list[str] = []
    for argument in args:
        if shown and shown[-1] in ("-e", "--extra-vars"):
            shown.append(_hide(argument))
        elif argument.startswith("--extra-vars="):
            shown.append(f"--extra-vars={_hide(argument.partition('=')[2])}")
        elif argument.startswith("-e") and len(argument) > 2:
            shown.append(f"-e{_hide(argument[2:])}")
        else:
            shown.append(argument)
    return shown


def _hide(value: str) -> str:
    if value.startswith("@"):
        return value
    name, equals, rest = value.partition("=")
    plain = equals and name.isidentifier() and "=" not in rest
    return f"{name}={HIDDEN_VALUE}" if plain else HIDDEN_VALUE


def job_name(playbook: Path, args: Sequence[str]) -> str:
    """What makes two runs comparable: the same playbook with the same options, whatever the variables' values."""
    return shlex.join([str(playbook), *without_values(args)])
