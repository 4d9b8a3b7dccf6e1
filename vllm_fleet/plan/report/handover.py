"""What playbooks/plan.yml hands over, turned into the report; the filters are thin over this."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from vllm_fleet.plan.report import hosts, text

_LOST = {
    "where": "host",
    "message": "The look at this host did not come to its end. See the failed task above.",
    "code": "look-failed",
    "severity": "error",
    "remedies": [],
}


def report(names: Iterable[str], variables: Mapping[str, Any], what_if: str = "") -> dict[str, Any]:
    """Return the report of all hosts as plain data.

    Args:
        names: all hosts of the play.
        variables: of each host; ``plan_of_host`` holds ``plan``, ``problems``, ``failures`` (findings, which say
            nothing of where) and ``now``. A host that dropped out before it had one has that as its problem.
        what_if: the GPUs that were put in place of theirs.
    """
    found = []
    for name in names:
        told = variables[name].get("plan_of_host") or {"plan": None, "problems": [_LOST], "failures": [], "now": None}
        failures = [{"where": "host", "remedies": [], **failure} for failure in told["failures"]]
        problems = [*failures, *told["problems"]]
        plan = None if any(one["severity"] == "error" for one in problems) else told["plan"] or None
        found.append(hosts.host_report(name, plan, problems, told["now"]))
    return hosts.as_json(hosts.Report(tuple(found), what_if))


def as_text(found: Mapping[str, Any]) -> str:
    """Return the report for a log."""
    return text.as_text(hosts.from_json(found))


def summary(found: Mapping[str, Any]) -> str:
    """Return the closing sentence."""
    return hosts.summary(hosts.from_json(found))
