"""What the playbook and the roles hand over, turned into findings and reports; the filters are thin over this."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from vllm_fleet.plan.ports import taken_ports
from vllm_fleet.preflight import host, report
from vllm_fleet.preflight.findings import Finding, error
from vllm_fleet.preflight.wanted import Wanted

# The role nvidia_driver refuses for these as well, since it can be run by itself.
ALSO_FOUND_BY_ROLES = frozenset({"no-gpu", "gpu-too-old", "secure-boot-key-not-enrolled"})

Found = list[dict[str, str]]


def fact_findings(facts: Mapping[str, Any], wanted: Mapping[str, Any]) -> Found:
    """Return what the fact ``gpu_host`` of a host gives; `wanted` has the keys of `Wanted`."""
    return [one.as_dict() for one in host.findings(facts, Wanted(**wanted))]


def merge(of_roles: Iterable[Mapping[str, str]], of_facts: Iterable[Mapping[str, str]]) -> Found:
    """Return all findings, without those of the facts that a role has found, too; the role knows more of the remedy."""
    found = [dict(one) for one in of_roles]
    said = {one["code"] for one in found} & ALSO_FOUND_BY_ROLES
    return found + [dict(one) for one in of_facts if one["code"] not in said]


def declaration_findings(problems: Iterable[Mapping[str, Any]]) -> Found:
    """Return a finding for each problem of a serving plan, given as a mapping."""
    found = []
    for problem in problems:
        text = f"{problem['where']}: {problem['message']}"
        text = text if text.endswith((".", "?", "!")) else f"{text}."
        text = f"{text} Correct the inventory." if problem["code"] == "declaration" else text
        found.append(Finding.from_mapping({**problem, "message": text}).as_dict())
    return found


def port_findings(servers: Iterable[Mapping[str, Any]], listeners: Iterable[Mapping[str, Any]]) -> Found:
    """Return a finding for each planned server on whose port somebody else listens."""
    found: dict[str, Finding] = {}
    for taken in taken_ports(servers, listeners):
        server, listener = taken["server"], taken["listener"]
        unit = f", unit {listener['unit']}" if listener.get("unit") else ""
        # A program whose workers all listen is one finding.
        found.setdefault(
            server["name"],
            error(
                "port-taken",
                f"server {server['name']}: port {server['port']} is taken by {listener['process']} "
                f"(pid {listener['pid']}{unit}). Stop it, or declare another port.",
            ),
        )
    return [one.as_dict() for one in found.values()]


def failure_findings(result: Mapping[str, Any], task: str, read: bool) -> Found:
    """Return the finding that a failed task is; `read` says whether the host's facts had been read by then."""
    # Only here, where something is wrong: the package brings ansible-runner along.
    from vllm_fleet.run.messages import failure_text, unreachable_text

    if result.get("unreachable"):
        return [error("host-unreachable", _one_line(unreachable_text(result).splitlines()[0])).as_dict()]
    if result.get("argument_errors"):
        return [error("settings", f"{_one_line(text)}. Correct the inventory.").as_dict()
                for text in result["argument_errors"]]  # fmt: skip
    said = _one_line(failure_text(result))
    if not read:
        remedy = "See that Python 3.8 or newer is there, and that ansible_python_interpreter names it."
        return [error("host-unreadable", f"The host cannot be read: {said}. {remedy}").as_dict()]
    return [error("look-failed", f'The task "{task}" failed: {said}. Run it again with -vvv to see more.').as_dict()]


def _one_line(text: str) -> str:
    return " ".join(text.split()).rstrip(".")[:600]


def by_host(hosts: Iterable[str], variables: Mapping[str, Any]) -> dict[str, Found]:
    """Return the findings of each host; a host that dropped out before it had any has that as its finding."""
    lost = error("look-failed", "The look at this host did not come to its end. See the failed task above.").as_dict()
    return {name: list(variables[name].get("preflight_findings", [lost])) for name in hosts}


def table(hosts: Mapping[str, Found]) -> str:
    """Return the table of all hosts."""
    return report.as_text(_parsed(hosts))


def summary(hosts: Mapping[str, Found]) -> str:
    """Return the closing sentence."""
    return report.summary(_parsed(hosts))


def as_json(hosts: Mapping[str, Found]) -> dict[str, Any]:
    """Return the report that `scripts/preflight --json` prints."""
    return report.as_json(_parsed(hosts))


def error_lines(found: Iterable[Mapping[str, Any]], name: str) -> str:
    """Return the errors among findings, one line each, with the host's name in front."""
    return "\n".join(f"{name}: {one['message']}" for one in found if one["severity"] == "error")


def _parsed(hosts: Mapping[str, Found]) -> dict[str, list[Finding]]:
    return {name: [Finding.from_mapping(one) for one in found] for name, found in hosts.items()}
