"""What the events of a run add up to."""

from run_builders import START, begin, event, failed, ok, play, retry, stats, task, unreachable

from vllm_fleet.run.events import Attempt, HostCounts, fold


def test_a_task_lasts_until_the_next_one_begins() -> None:
    state = fold([play("Install"), task("one", 1), begin("h", 1), ok("h", 3), task("two", 4)])
    assert [(run.name, run.stage, run.seconds(0)) for run in state.finished] == [("one", "Install", 3.0)]
    assert state.task is not None
    assert state.task.seconds(START + 10) == 6.0


def test_hosts_still_at_work_are_known() -> None:
    state = fold([play("p"), task("t"), begin("a"), begin("b"), ok("a", changed=True)])
    assert state.task is not None
    assert state.task.pending == ("b",)
    assert state.task.hosts("changed") == ("a",)


def test_a_play_in_batches_counts_once() -> None:
    state = fold([play("one", uuid="x"), play("one", uuid="x_2"), play("two", uuid="y")])
    assert state.stages_started == 2


def test_a_retry_shows_what_its_attempt_said() -> None:
    state = fold(
        [play("p"), task("wait"), begin("h"), retry("h", 3, 60, msg="non-zero return code", stdout="3.1 of 6.2 GB")]
    )
    assert state.task is not None
    assert state.task.attempts == {"h": Attempt(3, 60, "3.1 of 6.2 GB")}


def test_an_ignored_failure_is_no_failure() -> None:
    assert fold([play("p"), task("t"), failed("h", ignore=True, msg="x")]).failures == ()


def test_a_failure_carries_host_stage_task_and_message() -> None:
    (failure,) = fold([play("Install"), task("venv", role="vllm_runtime"), failed("h", msg="a\nb")]).failures
    assert (failure.host, failure.stage, failure.task, failure.message) == (
        "h",
        "Install",
        "vllm_runtime: venv",
        "a\nb",
    )


def test_an_unreachable_host_is_a_failure_of_its_own_kind() -> None:
    (failure,) = fold([play("p"), task("t"), unreachable("h")]).failures
    assert failure.unreachable


def test_what_debug_tells_is_kept_as_it_is() -> None:
    state = fold([play("p"), task("table"), ok("h", action="ansible.builtin.debug", msg="a  b\n  c\n")])
    assert [(message.host, message.text) for message in state.messages] == [("h", "a  b\n  c")]


def test_a_censored_change_still_counts_as_a_change() -> None:
    changed = event("runner_on_ok", host="h", res={"censored": "hidden"}, stdout="\r\nTASK [t] ****\r\nchanged: [h]")
    assert fold([play("p"), task("t"), changed, task("u")]).finished[0].hosts("changed") == ("h",)


def test_stats_become_counts_per_host() -> None:
    state = fold([stats(ok={"a": 3}, changed={"a": 1}, dark={"b": 1})])
    assert state.stats == {"a": HostCounts(ok=3, changed=1), "b": HostCounts(unreachable=1)}


def test_an_error_outside_of_tasks_is_kept_with_the_lines_that_explain_it() -> None:
    lines = ["Using /x/ansible.cfg", "[ERROR]: the playbook x.yml", "Origin: x.yml:3"]
    assert fold(event("verbose", stdout=line) for line in lines).errors == (
        "[ERROR]: the playbook x.yml",
        "Origin: x.yml:3",
    )


def test_a_warning_given_twice_is_kept_once() -> None:
    assert fold([event("warning", stdout="[WARNING]: w")] * 2).warnings == ("[WARNING]: w",)


def test_a_diff_is_kept_without_the_heading_ansible_puts_before_it() -> None:
    diff = event("runner_on_file_diff", host="h", task="conf", stdout="\nTASK [conf] ****\n--- before\n+++ after")
    assert [message.text for message in fold([diff]).diffs] == ["--- before\n+++ after"]
