"""The flags of the pinned ``vllm serve``, as data.

vLLM's own parser accepts abbreviations and drops some settings in silence, so names and values are
checked here, before anything is started. `scripts/make-vllm-flags` writes ``vllm_flags.json``
from an installed vLLM.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vllm_fleet.plan.problems import did_you_mean

DATA = Path(__file__).with_name("vllm_flags.json")


@dataclass(frozen=True)
class Flag:
    """One flag: whether it takes no value (``switch``), one (``value``) or several (``list``)."""

    takes: str
    choices: tuple[str, ...] | None = None
    type: str | None = None
    negatable: bool = False


@dataclass(frozen=True)
class FlagCatalogue:
    """All flags of one vLLM version by their name without the leading dashes."""

    version: str
    flags: Mapping[str, Flag]

    @classmethod
    def load(cls, path: Path = DATA) -> FlagCatalogue:
        """Read the catalogue that ships with the project."""
        data = json.loads(path.read_text(encoding="utf-8"))
        flags = {
            name: Flag(
                takes=entry["takes"],
                choices=tuple(entry["choices"]) if entry.get("choices") else None,
                type=entry.get("type"),
                negatable=entry.get("negatable", False),
            )
            for name, entry in data["flags"].items()
        }
        return cls(data["version"], flags)

    def refuse(self, name: str, value: object) -> str | None:
        """Return the reason why ``--name value`` is no right use of ``vllm serve``, or None."""
        flag = self.flags.get(name)
        if flag is None:
            return f"vllm {self.version} has no flag --{name}{did_you_mean(name, self.flags)}"
        if isinstance(value, bool):
            if flag.takes != "switch":
                return f"--{name} takes a value, found {_yaml(value)}"
            if not value and not flag.negatable:
                return f"--{name} cannot be switched off; leave it out"
            return None
        if flag.takes == "switch":
            return f"--{name} is a switch: expected true or false, found {value!r}"
        if isinstance(value, list) and flag.takes != "list":
            return f"--{name} takes one value, found a list"
        for item in value if isinstance(value, list) else [value]:
            if (reason := _refuse_value(name, flag, item)) is not None:
                return reason
        return None

    def render(self, name: str, value: Any) -> list[str]:
        """Return the command line words for a flag that `refuse` has let through."""
        if isinstance(value, bool):
            return [f"--{name}" if value else f"--no-{name}"]
        items = value if isinstance(value, list) else [value]
        return [f"--{name}", *(json.dumps(i) if isinstance(i, Mapping) else str(i) for i in items)]


def _refuse_value(name: str, flag: Flag, value: object) -> str | None:
    if value is None:
        return f"--{name} has no value"
    if flag.choices is not None and str(value) not in flag.choices:
        return f"--{name}: expected one of {', '.join(flag.choices)}, found {value!r}"
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if flag.type == "int" and not isinstance(value, int):
        return f"--{name}: expected a whole number, found {value!r}"
    if flag.type == "float" and not number:
        return f"--{name}: expected a number, found {value!r}"
    return None


def _yaml(value: bool) -> str:
    return "true" if value else "false"
