"""The findings of all hosts as one table for people, and as JSON."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from vllm_fleet.preflight.findings import Finding, Severity

# Below this a sentence is not broken any further, however narrow the terminal.
MIN_MESSAGE = 40
_HEADINGS = ("host", "severity", "code", "finding")

Hosts = Mapping[str, Sequence[Finding]]


def as_text(hosts: Hosts, width: int | None = None) -> str:
    """The table, errors first on each host, then a sentence. No line ends in blanks.

    Without `width` (columns) sentences are not broken, so that they can be searched for and copied.
    """
    rows = [
        (host, str(one.severity), one.code, line)
        for host, found in hosts.items()
        for one in sorted(found, key=lambda one: one.severity)
        for line in one.message.splitlines()
    ]
    if not rows:
        return summary(hosts)
    columns = [max(map(len, column)) for column in zip(_HEADINGS[:3], *(row[:3] for row in rows), strict=True)]
    lines = [_line(_HEADINGS, columns)]
    for row in rows:
        room = max(MIN_MESSAGE, width - sum(columns) - 2 * len(columns) - 1) if width else None
        first, *more = textwrap.wrap(row[3], room, break_on_hyphens=False) if room else [row[3]]
        lines.append(_line((*row[:3], first), columns))
        lines += [_line(("", "", "", text), columns) for text in more]
    return "\n".join([*lines, "", summary(hosts)])


def _line(cells: Sequence[str], columns: Sequence[int]) -> str:
    padded = [cell.ljust(size) for cell, size in zip(cells, columns, strict=False)]
    return f" {'  '.join([*padded, cells[3]])}".rstrip()


def count(hosts: Hosts, severity: Severity) -> int:
    """How many findings of one severity there are on all hosts."""
    return sum(one.severity is severity for found in hosts.values() for one in found)


def summary(hosts: Hosts) -> str:
    """One sentence: what would become of the run."""
    errors, warnings = count(hosts, Severity.ERROR), count(hosts, Severity.WARNING)
    looked = _number(len(hosts), "host")
    if errors:
        bad = sum(any(one.severity is Severity.ERROR for one in found) for found in hosts.values())
        rest = f", and {_number(warnings, 'warning')}" if warnings else ""
        return f"{_number(errors, 'error')} on {bad} of {looked} would stop the run{rest}; nothing was changed."
    if warnings:
        return f"{_number(warnings, 'warning')} on {looked}, nothing that would stop the run; nothing was changed."
    return f"{looked}: nothing was found that would stop the run; nothing was changed."


def _number(count: int, thing: str) -> str:
    return f"{count} {thing}{'' if count == 1 else 's'}"


def as_json(hosts: Hosts) -> dict[str, Any]:
    """Everything, ready for `json.dump`."""
    return {
        "errors": count(hosts, Severity.ERROR),
        "warnings": count(hosts, Severity.WARNING),
        "hosts": [{"name": host, "findings": [one.as_dict() for one in found]} for host, found in hosts.items()],
    }


def from_json(report: Mapping[str, Any]) -> dict[str, list[Finding]]:
    """Read what `as_json` made."""
    return {host["name"]: [Finding.from_mapping(one) for one in host["findings"]] for host in report["hosts"]}
