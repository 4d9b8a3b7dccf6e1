"""The plans of all hosts of a look, or what is against them, as one report; and the same as JSON."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from vllm_fleet.plan.report.difference import Difference, compare, hidden
from vllm_fleet.plan.sentences import counted

# What differs between hosts that serve the same in the same way.
_OF_ONE_HOST = ("host", "base_url")


@dataclass(frozen=True)
class HostReport:
    """One host: its plan, or None; every problem found; and what a run would change, None where nobody looked.

    ``plan`` and ``problems`` are plain data, as the filter serving_plan returns them.
    """

    name: str
    plan: Mapping[str, Any] | None
    problems: tuple[Mapping[str, Any], ...] = ()
    differences: tuple[Difference, ...] | None = None

    @property
    def errors(self) -> int:
        """How many problems keep the host from a plan."""
        return sum(one["severity"] == "error" for one in self.problems)

    @property
    def warnings(self) -> int:
        """How many problems do not."""
        return len(self.problems) - self.errors


@dataclass(frozen=True)
class Report:
    """All hosts. ``what_if`` names the GPUs that were put in place of theirs, if any."""

    hosts: tuple[HostReport, ...]
    what_if: str = ""

    @property
    def refused(self) -> tuple[HostReport, ...]:
        """Hosts without a plan."""
        return tuple(host for host in self.hosts if host.plan is None)


def host_report(
    name: str,
    plan: Mapping[str, Any] | None,
    problems: Iterable[Mapping[str, Any]],
    now: Mapping[str, Mapping[str, Any]] | None,
) -> HostReport:
    """Return the report of one host, in which no secret stands any more.

    Args:
        name: the host's name in the inventory.
        plan: its serving plan, None if it was refused.
        problems: everything found.
        now: what is there now, by server, None where nobody looked.
    """
    differences = None if plan is None or now is None else compare(plan, now)
    return HostReport(name, plan and _without_secrets(plan), tuple(problems), differences)


def _without_secrets(plan: Mapping[str, Any]) -> dict[str, Any]:
    servers = []
    for server in plan["servers"]:
        argv = list(server["argv"])
        argv = [
            hidden(flag, word) if flag.startswith("--") else word for flag, word in zip(["", *argv], argv, strict=False)
        ]
        env = {name: hidden(name, value) for name, value in server["env"].items()}
        servers.append({**server, "argv": argv, "env": env})
    return {**plan, "servers": servers}


def alike(hosts: Iterable[HostReport]) -> list[list[HostReport]]:
    """Return the hosts in groups that differ in nothing but name and address, those without a plan first."""
    groups: dict[str, list[HostReport]] = {}
    for host in hosts:
        groups.setdefault(_likeness(host), []).append(host)
    return sorted(groups.values(), key=lambda group: group[0].plan is not None)


def _likeness(host: HostReport) -> str:
    plan = host.plan and {
        **{key: value for key, value in host.plan.items() if key not in _OF_ONE_HOST},
        "servers": [{k: v for k, v in server.items() if k not in _OF_ONE_HOST} for server in host.plan["servers"]],
    }
    differences = host.differences and [one.as_dict() for one in host.differences]
    text = json.dumps([plan, host.problems, differences], sort_keys=True)
    # Sentences name the host.
    return re.sub(rf"(?<![\w.-]){re.escape(host.name)}(?![\w-]|\.\w)", "\0", text)


def summary(report: Report) -> str:
    """Return one sentence: for how many hosts there is a plan, and what a run would do there."""
    hosts, refused = report.hosts, report.refused
    planned = len(hosts) - len(refused)
    servers = sum(len(host.plan["servers"]) for host in hosts if host.plan)
    parts = []
    if refused:
        errors = counted(sum(host.errors for host in refused), "error")
        parts.append(f"{len(refused):,} of {counted(len(hosts), 'host')} refused for {errors}")
    if planned:
        on = f" with {report.what_if}" if report.what_if else ""
        parts.append(f"{counted(servers, 'model server')} planned on {counted(planned, 'host')}{on}")
    if warnings := sum(host.warnings for host in hosts):
        parts.append(counted(warnings, "warning"))
    if refused:
        parts.append("a run would stop before it changes anything")
    elif effects := Counter(one.effect for host in hosts for one in host.differences or ()):
        doing = [f"{verb} {effects[effect]:,}" for effect, verb in _VERBS.items() if effects[effect]]
        kept = f"leave {effects['keeps running']:,} running" if effects["keeps running"] else ""
        parts.append(f"a run would {' and '.join(filter(None, [', '.join(doing), kept]))}")
    return f"{'; '.join(parts)}; nothing was changed."


_VERBS = {"starts": "start", "restarts": "restart", "stops": "stop"}


def as_json(report: Report) -> dict[str, Any]:
    """Return everything, ready for `json.dump`."""
    return {
        "what_if": report.what_if,
        "errors": sum(host.errors for host in report.hosts),
        "warnings": sum(host.warnings for host in report.hosts),
        "hosts": [
            {
                "name": host.name,
                "plan": host.plan,
                "problems": list(host.problems),
                "differences": None if host.differences is None else [one.as_dict() for one in host.differences],
            }
            for host in report.hosts
        ],
    }


def from_json(given: Mapping[str, Any]) -> Report:
    """Read what `as_json` made."""
    hosts = []
    for host in given["hosts"]:
        found = host["differences"]
        differences = None if found is None else tuple(map(Difference.from_mapping, found))
        hosts.append(HostReport(host["name"], host["plan"], tuple(host["problems"]), differences))
    return Report(tuple(hosts), given.get("what_if", ""))
