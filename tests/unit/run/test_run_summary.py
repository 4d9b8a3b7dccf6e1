"""What stands at the end of a run."""

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from run_builders import failed, ok, play, stats, task, unreachable

from vllm_fleet.run.cli import retry_command
from vllm_fleet.run.events import fold
from vllm_fleet.run.outcome import Status, first_failure
from vllm_fleet.run.playbook import CHECKOUT
from vllm_fleet.run.runner import RunResult
from vllm_fleet.run.summary import print_summary

CHANGES = [
    *(play("Install"), task("slow", 0), ok("a", 65, changed=True), ok("b", 65), task("quick", 65), ok("a", 65.2)),
    stats(65.3, ok={"a": 2, "b": 1}, changed={"a": 1}),
]


def result_of(events: Sequence[dict[str, Any]], status: Status = "successful", explanation: str = "") -> RunResult:
    state = fold(events)
    return RunResult(
        status=status,
        rc=0 if status == "successful" else 2,
        explanation=explanation,
        hosts=state.stats or {},
        failure=None if explanation else first_failure(state),
        failures=state.failures,
        debug_messages=state.messages,
        diffs=state.diffs,
        warnings=state.warnings,
        tasks=state.finished,
        unfinished=state.task,
        duration=66.0,
        log_dir=Path("/log/20260101T000000Z"),
    )


def printed(result: RunResult, check: bool = False) -> list[str]:
    console = Console(file=io.StringIO(), record=True, width=80)
    print_summary(console, result, "scripts/deploy site.yml", check)
    return [line.rstrip() for line in console.export_text().splitlines()]


def test_a_good_run_ends_with_time_hosts_and_changes() -> None:
    lines = printed(result_of(CHANGES))
    assert "Done in 1:06: 2 hosts, 1 task changed something." in lines
    assert "host  ok  changed  failed  unreachable  skipped" in lines
    assert "a      2        1       0            0        0" in lines


def test_only_slow_tasks_are_named_as_slow() -> None:
    text = "\n".join(printed(result_of(CHANGES)))
    assert "1:05  slow" in text
    assert "quick" not in text


def test_check_mode_says_that_nothing_was_touched() -> None:
    lines = printed(result_of(CHANGES), check=True)
    assert "Checked 2 hosts in 1:06; nothing was touched: 1 task would change something." in lines


def test_a_failure_ends_with_host_task_message_log_and_command() -> None:
    events = [
        *(play("Install"), task("venv", role="vllm_runtime"), failed("a", msg="Disk full:\n  /var [99 %]")),
        *(failed("c", msg="same"), task("later"), unreachable("b")),
        stats(failures={"a": 1, "c": 1}, dark={"b": 1}),
    ]
    lines = printed(result_of(events, "failed"))
    start = lines.index("FAILED: a")
    assert lines[start:] == [
        "FAILED: a",
        "Stage:     Install",
        "Task:      vllm_runtime: venv",
        "Defined:   /site/play.yml:7",
        "",
        "  Disk full:",
        "    /var [99 %]",
        "",
        "Also failed: c, at the same task",
        "Also failed: b, at later",
        "Full log:  /log/20260101T000000Z/stdout",
        "Try again: scripts/deploy site.yml",
    ]


def test_a_table_a_task_prints_stays_a_table_and_comes_after_the_counts() -> None:
    table = "server" + " " * 100 + "state\nllm   " + " " * 100 + "[ok]"
    lines = printed(result_of([*CHANGES[:-1], ok("a", action="ansible.builtin.debug", msg=table), CHANGES[-1]]))
    first, second = table.splitlines()
    assert lines[lines.index(first) + 1] == second
    assert lines.index(first) > lines.index("host  ok  changed  failed  unreachable  skipped")


def test_what_several_hosts_say_alike_is_said_once() -> None:
    say = {"action": "ansible.builtin.debug", "msg": "ready"}
    lines = printed(result_of([play("p"), task("t"), ok("a", **say), ok("b", **say), stats(ok={"a": 1, "b": 1})]))
    assert lines.count("ready") == 1
    assert "a, b:" in lines


def test_an_interrupted_run_tells_where_it_was() -> None:
    lines = printed(result_of([play("p"), task("Fetch the models")], "interrupted"))
    assert any(line.startswith("It was at: Fetch the models.") for line in lines)


def test_an_unknown_outcome_is_not_called_a_failure() -> None:
    lines = printed(replace(result_of(CHANGES), status="unknown", explanation="No recap.", failure=None))
    assert "UNKNOWN: it cannot be said whether this run succeeded." in lines
    assert "No recap." in lines
    assert not any("FAILED" in line for line in lines)


def test_the_command_to_retry_works_where_the_person_is(tmp_path: Path) -> None:
    assert retry_command(["site.yml", "-e", "a=b"], CHECKOUT) == "scripts/deploy site.yml -e a=..."
    assert retry_command([], tmp_path) == str(CHECKOUT / "scripts" / "deploy")
