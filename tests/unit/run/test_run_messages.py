"""What a person reads about a task's result."""

import pytest

from vllm_fleet.run.messages import attempt_text, clean, debug_text, failure_text, unreachable_text


def test_a_message_of_several_lines_stays_as_it_is() -> None:
    assert failure_text({"msg": "Two things:\n  - one\n  - two"}) == "Two things:\n  - one\n  - two"


def test_a_list_as_message_becomes_lines() -> None:
    assert failure_text({"msg": ["one", "two"]}) == "one\ntwo"


def test_a_failed_command_tells_command_status_and_what_it_said() -> None:
    result = {
        "msg": "non-zero return code",
        "cmd": ["nvidia-smi", "-L"],
        "rc": 9,
        "stderr": "no devices",
        "stdout": "x",
    }
    assert failure_text(result) == "The command `nvidia-smi -L` ended with status 9.\nno devices"


def test_of_a_script_only_its_first_line_is_shown() -> None:
    result = {"msg": "non-zero return code", "cmd": "set -e\nfalse", "rc": 1}
    assert failure_text(result) == "The command `set -e ...` ended with status 1."


def test_of_a_long_output_only_the_end_is_shown() -> None:
    text = failure_text({"msg": "non-zero return code", "stderr": "\n".join(f"line {n}" for n in range(500))})
    assert text.endswith("line 499")
    assert len(text.splitlines()) < 20


def test_a_loop_names_the_item_that_failed_and_the_others() -> None:
    items = [
        {"item": "a", "msg": ""},
        {"item": "b", "failed": True, "msg": "no"},
        {"item": "c", "failed": True, "msg": "no"},
    ]
    assert failure_text({"results": items, "msg": "One or more items failed"}) == "Item b: no\nAlso failed: c"


def test_an_assertion_without_message_tells_what_is_not_so() -> None:
    assert failure_text({"msg": "Assertion failed", "assertion": "x | bool"}) == "This is not so: x | bool"


def test_a_secret_tasks_failure_says_why_it_says_nothing() -> None:
    assert "no_log" in failure_text({"censored": "the output has been hidden"})


def test_escape_sequences_of_a_host_do_not_reach_the_terminal() -> None:
    assert clean("\x1b[31mred\x1b[0m \x1b]0;title\x07\ttab\nline") == "red ]0;title\ttab\nline"


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ("ssh: connect to host 10.0.0.9 port 22: Connection refused", "sshd"),
        ("ssh: connect to host 10.0.0.9 port 22: Connection timed out", "firewall"),
        ("ssh: Could not resolve hostname gpu-9: Name or service not known", "ansible_host"),
        ("root@gpu-1: Permission denied (publickey,password).", "ansible_user"),
        ("Host key verification failed.", "known_hosts"),
    ],
)
def test_an_unreachable_host_is_told_with_what_to_check(said: str, advice: str) -> None:
    text = unreachable_text({"msg": f"Task failed: Failed to connect to the host via ssh: {said}"})
    assert advice in text.splitlines()[0]
    assert said in text


def test_a_debugged_variable_is_told_with_its_name() -> None:
    assert debug_text({"port": 8000, "changed": False, "_ansible_verbose_always": True}) == "port: 8000"


def test_a_debug_loop_tells_every_item() -> None:
    assert debug_text({"results": [{"msg": "one"}, {"msg": "two"}], "msg": "All items completed"}) == "one\ntwo"


def test_an_attempts_progress_is_its_last_line() -> None:
    assert attempt_text({"msg": "non-zero return code", "stdout": "start\n3.1 of 6.2 GB\n"}) == "3.1 of 6.2 GB"


def test_an_attempt_of_a_secret_task_says_nothing() -> None:
    assert attempt_text({"censored": "hidden"}) == ""
