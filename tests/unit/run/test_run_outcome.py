"""A run counts as good only if exit status, statistics and recap say so together."""

import pytest
from run_builders import event, failed, ok, play, recap, stats, task, unreachable

from vllm_fleet.run.events import HostCounts, RunState, fold
from vllm_fleet.run.outcome import first_failure, judge, parse_recap

GOOD = fold([play("p"), task("t"), ok("h"), stats(ok={"h": 2}, changed={"h": 1})])
GOOD_RECAP = recap("h 2 1 0 0 0 0 0")
BAD = fold([play("p"), task("t"), failed("h", msg="broken"), stats(failures={"h": 1})])
BAD_RECAP = recap("h 0 0 0 1 0 0 0")


def test_three_witnesses_for_success_make_a_success() -> None:
    assert judge(0, GOOD, GOOD_RECAP, interrupted=False).status == "successful"


def test_three_witnesses_for_failure_make_a_failure() -> None:
    assert judge(2, BAD, BAD_RECAP, interrupted=False).status == "failed"


@pytest.mark.parametrize(
    ("rc", "state", "log", "said"),
    [
        pytest.param(0, RunState(), GOOD_RECAP, "statistics never arrived", id="stats-lost"),
        pytest.param(0, GOOD, "", "no recap", id="recap-lost"),
        pytest.param(0, GOOD, recap("h 2 0 0 0 0 0 0"), "disagree about h", id="recap-differs"),
        pytest.param(0, GOOD, recap("h 2 1 0 0 0 0 0", "i 1 0 0 0 0 0 0"), "disagree about i", id="host-missing"),
        pytest.param(0, BAD, BAD_RECAP, "count failures on h", id="rc-0-but-failures"),
        pytest.param(2, GOOD, GOOD_RECAP, "count no failure", id="rc-2-but-no-failure"),
        pytest.param(2, RunState(), "", "statistics never arrived", id="rc-2-and-nothing-else"),
        pytest.param(None, GOOD, GOOD_RECAP, "was killed", id="killed"),
        pytest.param(4, fold([play("p")]), "", "statistics never arrived", id="rc-4-in-the-middle"),
    ],
)
def test_witnesses_that_disagree_make_the_outcome_unknown(rc: int | None, state: RunState, log: str, said: str) -> None:
    verdict = judge(rc, state, log, interrupted=False)
    assert verdict.status == "unknown"
    assert said in verdict.explanation


def test_an_error_before_any_task_is_told_in_ansibles_words() -> None:
    state = fold([event("verbose", stdout="[ERROR]: no such role")])
    verdict = judge(4, state, "[ERROR]: no such role", interrupted=False)
    assert (verdict.status, verdict.explanation) == ("failed", "[ERROR]: no such role")


def test_a_dead_worker_is_told_as_lack_of_memory() -> None:
    verdict = judge(1, RunState(), "[ERROR]: A worker was found in a dead state", interrupted=False)
    assert verdict.status == "failed"
    assert "memory" in verdict.explanation
    assert "--forks" in verdict.explanation


def test_only_unreachable_hosts_make_the_run_unreachable() -> None:
    state = fold([play("p"), task("t"), unreachable("h"), stats(dark={"h": 1})])
    assert judge(4, state, recap("h 0 0 1 0 0 0 0"), interrupted=False).status == "unreachable"


def test_an_interruption_after_the_end_does_not_spoil_a_good_run() -> None:
    assert judge(0, GOOD, GOOD_RECAP, interrupted=True).status == "successful"


def test_an_interrupted_run_is_interrupted_whatever_its_status() -> None:
    assert judge(254, RunState(), "", interrupted=True).status == "interrupted"


def test_a_run_without_hosts_says_that_nothing_was_done() -> None:
    verdict = judge(0, fold([stats()]), recap(), interrupted=False)
    assert verdict.status == "successful"
    assert "Nothing was done" in verdict.explanation


def test_the_recap_is_read_behind_whatever_was_printed_before() -> None:
    assert parse_recap("msg: PLAY RECAP is near\n" + GOOD_RECAP) == {"h": HostCounts(ok=2, changed=1)}


def test_the_first_failure_is_the_first_that_was_not_rescued() -> None:
    events = [play("p"), task("tried"), failed("h", msg="rescued"), task("last"), failed("h", msg="final")]
    failure = first_failure(fold([*events, stats(failures={"h": 1}, rescued={"h": 1})]))
    assert failure is not None
    assert failure.message == "final"
