"""Did the run succeed? Three witnesses must agree: the exit status, the stats event and the printed recap.

A run whose last events were lost must not pass for a good one, so where the three disagree the answer is "unknown".
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from vllm_fleet.run.events import Failure, HostCounts, RunState

Status = Literal["successful", "failed", "unreachable", "interrupted", "unknown"]

RC_UNKNOWN = 3
RC_INTERRUPTED = 130
_ANSIBLE_INTERRUPTED = 99
# Statuses with which ansible-playbook ends before or outside of any task: it prints an error and no recap.
_WITHOUT_RECAP = (1, 4, 5, 6, 250)
_RECAP_LINE = re.compile(
    r"^(?P<host>\S+)\s+: ok=(?P<ok>\d+)\s+changed=(?P<changed>\d+)\s+unreachable=(?P<unreachable>\d+)\s+"
    r"failed=(?P<failed>\d+)\s+skipped=(?P<skipped>\d+)\s+rescued=(?P<rescued>\d+)\s+ignored=(?P<ignored>\d+)",
    re.MULTILINE,
)
_OUT_OF_MEMORY = (
    "A worker process of this machine (the controller) died: most likely memory ran out. "
    "Run again with fewer hosts at a time, for example `--forks 5`, or on a machine with more memory."
)
_KILLED = (
    "ansible-playbook was killed, by somebody or because this machine (the controller) ran out of memory: "
    "`dmesg` would say so. Run again; if memory is short, with fewer hosts at a time, for example `--forks 5`."
)


@dataclass(frozen=True)
class Verdict:
    """What became of a run; `explanation` is for cases no task's failure explains, else empty."""

    status: Status
    explanation: str = ""


def parse_recap(log: str) -> dict[str, HostCounts] | None:
    """The counts of the last PLAY RECAP in Ansible's printed output, None if it has none."""
    _, found, recap = log.rpartition("PLAY RECAP")
    if not found:
        return None
    return {
        line["host"]: HostCounts(**{key: int(value) for key, value in line.groupdict().items() if key != "host"})
        for line in _RECAP_LINE.finditer(recap)
    }


def judge(rc: int | None, state: RunState, log: str, interrupted: bool) -> Verdict:
    """The verdict on a run that ended with `rc` (None: killed by a signal), whose output is `log`."""
    recap = parse_recap(log)
    if interrupted and not (rc == 0 and state.stats is not None):
        return Verdict("interrupted")
    if rc == _ANSIBLE_INTERRUPTED:
        return Verdict("interrupted")
    if "A worker was found in a dead state" in log:
        return Verdict("failed" if rc else "unknown", _OUT_OF_MEMORY)
    if rc is None or rc < 0:
        return Verdict("unknown", _KILLED)
    if state.stats is None and recap is None and rc in _WITHOUT_RECAP and (state.errors or not state.stages):
        return Verdict("failed", "\n".join(state.errors) or f"ansible-playbook ended with status {rc} before any task.")
    if disagreement := _disagreement(rc, state.stats, recap):
        return Verdict("unknown", f"{disagreement} What was done on the hosts is not certain. Run it again.")
    failed, dark = _any(state.stats, "failed"), _any(state.stats, "unreachable")
    if rc == 0:
        return Verdict("successful", "" if state.stats else "Nothing was done: no host or no task was chosen.")
    if dark and not failed:
        return Verdict("unreachable")
    return Verdict("failed", "" if state.failures or dark else "\n".join(state.errors))


def _any(stats: Mapping[str, HostCounts] | None, count: Literal["failed", "unreachable"]) -> bool:
    return any(getattr(counts, count) for counts in (stats or {}).values())


def _disagreement(
    rc: int, stats: Mapping[str, HostCounts] | None, recap: Mapping[str, HostCounts] | None
) -> str | None:
    if stats is None:
        return f"ansible-playbook ended with status {rc}, but its closing statistics never arrived."
    if recap is None:
        return f"ansible-playbook ended with status {rc}, but printed no recap."
    if stats != recap:
        differing = sorted(host for host in {*stats, *recap} if stats.get(host) != recap.get(host))
        return f"The statistics and the printed recap of ansible-playbook disagree about {', '.join(differing)}."
    broken = [host for host, counts in stats.items() if counts.failed or counts.unreachable]
    if rc == 0 and broken:
        return f"ansible-playbook ended with status 0, but its statistics count failures on {', '.join(broken)}."
    if rc in (2, 4) and not broken:
        return f"ansible-playbook ended with status {rc}, but its statistics count no failure."
    return None


def first_failure(state: RunState) -> Failure | None:
    """The failure that ended the run for its host: the earliest one no `rescue` caught."""
    if state.stats is None:
        return state.failures[0] if state.failures else None
    seen: dict[str, int] = {}
    for failure in state.failures:
        counts = state.stats.get(failure.host, HostCounts())
        seen[failure.host] = seen.get(failure.host, 0) + 1
        if failure.unreachable and counts.unreachable:
            return failure
        if not failure.unreachable and counts.failed and seen[failure.host] > counts.rescued:
            return failure
    return None
