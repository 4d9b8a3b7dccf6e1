"""What a run would do to the model servers of a host: which start, restart, stop, and because of what.

Compared are the words of the command line and the environment, which are what the plan decides. A new release of vLLM
or other files of a model restart a server as well, and are not seen here.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

HIDDEN = "(hidden)"
_SECRET = re.compile(r"(?:^|[-_])(?:key|token|secret|password|passwd|credentials?)$", re.IGNORECASE)
_USER_OF_URL = re.compile(r"(?<=://)[^/@\s]+(?=@)")


class State(StrEnum):
    """How a server of the plan compares with one that is there."""

    NEW = "new"
    CHANGED = "changed"
    UNCHANGED = "unchanged"
    GONE = "gone"


@dataclass(frozen=True)
class Changed:
    """One flag, the model, or one variable of the environment; None where it is not given. Secrets are hidden."""

    what: str
    now: str | None
    planned: str | None

    def __str__(self) -> str:
        if self.now is None:
            return f"{self.what} {self.planned}".rstrip() + " is added"
        if self.planned is None:
            return f"{self.what} {self.now}".rstrip() + " is dropped"
        return f"{self.what} {self.now} -> {self.planned}"


@dataclass(frozen=True)
class Difference:
    """One server: what is there now against what is planned.

    ``active`` is the state of its unit in systemd's words, None where there is no unit or systemd does not say.
    """

    server: str
    unit: str
    state: State
    active: str | None
    changes: tuple[Changed, ...] = ()

    @property
    def effect(self) -> str:
        """What becomes of it: ``starts``, ``restarts``, ``keeps running`` or ``stops``."""
        if self.state is State.GONE:
            return "stops"
        if self.active != "active":
            return "starts"
        return "restarts" if self.state is State.CHANGED else "keeps running"

    def __str__(self) -> str:
        if self.state is State.GONE:
            return "stops, and its unit is removed: it is declared no more"
        if self.state is State.NEW:
            return "starts: it is new"
        stopped = f" (its unit is {self.active or 'in an unknown state'} now)" if self.effect == "starts" else ""
        reasons = f": {', '.join(map(str, self.changes))}" if self.changes else ""
        return f"{self.effect}{stopped}{reasons}"

    def as_dict(self) -> dict[str, Any]:
        """Return plain data, ready for JSON."""
        return {
            **asdict(self),
            "state": str(self.state),
            "effect": self.effect,
            "changes": list(map(asdict, self.changes)),
        }

    @classmethod
    def from_mapping(cls, given: Mapping[str, Any]) -> Difference:
        """Read what `as_dict` made."""
        changes = tuple(Changed(**change) for change in given["changes"])
        return cls(given["server"], given["unit"], State(given["state"]), given["active"], changes)


def compare(plan: Mapping[str, Any], now: Mapping[str, Mapping[str, Any]]) -> tuple[Difference, ...]:
    """Return one difference for each server that is planned or there, planned ones first and in start order.

    Args:
        plan: the serving plan as plain data.
        now: what is there, by the server's name, as the module model_server_facts reports it.
    """
    planned = {server["name"]: server for server in plan["servers"]}
    found = []
    for name, server in planned.items():
        there = now.get(name)
        if there is None:
            found.append(Difference(name, server["unit"], State.NEW, active=None))
        else:
            changes = tuple(_changes(there, server))
            state = State.CHANGED if changes else State.UNCHANGED
            found.append(Difference(name, server["unit"], state, there.get("active"), changes))
    gone = [name for name in sorted(now) if name not in planned]
    return tuple(found) + tuple(
        Difference(name, now[name]["unit"], State.GONE, now[name].get("active")) for name in gone
    )


def _changes(there: Mapping[str, Any], server: Mapping[str, Any]) -> Iterator[Changed]:
    yield from _between(_flags(there.get("argv") or ()), _flags(server["argv"]))
    yield from _between(there.get("env") or {}, server["env"])


def _between(now: Mapping[str, str], planned: Mapping[str, str]) -> Iterator[Changed]:
    for what in [*now, *(name for name in planned if name not in now)]:
        if now.get(what) != planned.get(what):
            yield Changed(what, hidden(what, now.get(what)), hidden(what, planned.get(what)))


def _flags(argv: Sequence[str]) -> dict[str, str]:
    """Return the values behind each flag of a command line; words before the first flag are the model."""
    groups: dict[str, list[str]] = {}
    name = "model"
    for word in argv[1:]:
        if word.startswith("--"):
            name, joined, value = word.partition("=")
            groups[name] = [value] if joined else []
        else:
            groups.setdefault(name, []).append(word)
    return {name: shlex.join(words) for name, words in groups.items()}


def hidden(name: str, value: str | None) -> str | None:
    """Return a value of a flag or a variable without what only its owner should know."""
    if value is None or not value:
        return value
    return HIDDEN if _SECRET.search(name) else _USER_OF_URL.sub(HIDDEN, value)
