"""What goes into a unit survives systemd's quoting; what systemd prints is read right."""

from __future__ import annotations

import pytest

from vllm_fleet.units import first_error, in_state, outdated, parse_show, quote_argument, quote_word

SHOWN = """Id=vllm-llm.service
ActiveState=active
ExecMainStartTimestamp=Tue 2023-11-14 22:15:00 UTC

Id=vllm-rerank.service
ActiveState=failed
ExecMainStartTimestamp=
"""


@pytest.mark.parametrize(
    ("word", "quoted"),
    [
        ("--dtype", "--dtype"),
        ("50%", '"50%%"'),
        ("two words", '"two words"'),
        ('{"a": 1}', '"{\\"a\\": 1}"'),
        ("$HOME", '"$$HOME"'),
        ("a;b", '"a;b"'),
    ],
)
def test_an_argument_reaches_the_process_as_it_is(word: str, quoted: str) -> None:
    assert quote_argument(word) == quoted


def test_a_dollar_in_an_environment_value_stays_one() -> None:
    assert quote_word("A=$b") == '"A=$b"'


def test_units_are_read_by_their_id() -> None:
    assert parse_show(SHOWN)["vllm-llm.service"]["ActiveState"] == "active"
    assert in_state(SHOWN, "failed") == ["vllm-rerank.service"]


@pytest.mark.parametrize(
    ("path", "mtime", "expected"),
    [
        ("/etc/systemd/system/vllm-llm.service", 1700000200.5, ["vllm-llm.service"]),
        ("/etc/systemd/system/vllm-llm.service", 1700000100.9, []),
        ("/etc/systemd/system/vllm-other.service", 1700000200.0, []),
        ("/opt/vllm-fleet/libexec/vllm_notify.py", 1700000200.0, ["vllm-llm.service"]),
    ],
)
def test_a_server_older_than_its_settings_is_outdated(path: str, mtime: float, expected: list[str]) -> None:
    units = ["vllm-llm.service", "vllm-rerank.service"]
    assert outdated(units, SHOWN, [{"path": path, "mtime": mtime}]) == expected


def test_an_error_that_takes_two_lines_is_quoted_with_both() -> None:
    journal = """(APIServer pid=10) WARNING 11-26 13:43:46 [system_utils.py:255] It can cause errors like `OSError`
Traceback (most recent call last):
pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig
  Value error, User-specified max_model_len (1000000) is greater than the derived max_model_len
    For further information visit https://errors.pydantic.dev/2.14/v/value_error
"""
    assert first_error(journal).splitlines() == journal.splitlines()[2:4]


def test_the_cause_is_quoted_rather_than_the_processes_that_noticed_it() -> None:
    journal = """Starting vllm-llm.service - vLLM llm server...
ValueError: an old failure
Starting vllm-llm.service - vLLM llm server...
(APIServer pid=10) WARNING 11-24 21:07:05 [system_utils.py:255] This can cause errors like `OSError: [Errno 24]`
(EngineCore pid=12) Traceback (most recent call last):
(EngineCore pid=12) ValueError: max seq len (32768) is larger than KV cache (7344)
(APIServer pid=10) RuntimeError: Engine core initialization failed. See root cause above.
vllm-notify: vllm exited with status 1 although nobody asked it to stop
"""
    text = first_error(journal)
    assert text.startswith("(EngineCore pid=12) ValueError: max seq len")
    assert "old failure" not in text
    assert "initialization failed" not in text
