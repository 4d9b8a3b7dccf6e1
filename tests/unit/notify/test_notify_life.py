"""What systemd is told: ready after an answer, failed when it ends unasked; starts and stops wait for each other."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.notify.wrapped import Wrapped, module


def test_ready_is_told_after_a_real_answer(wrap: Callable[..., Wrapped]) -> None:
    wrapped = wrap(delay=1.5)
    assert wrapped.hear("READY=1")
    assert any("loading the model" in message for message in wrapped.heard[:-1])
    assert "STATUS=serving tiny, float16, tensor parallel 2" in wrapped.heard[-1]


@pytest.mark.parametrize(("mode", "told"), [("500", "answered 500"), ("empty", "answered 200 without a result")])
def test_a_server_that_refuses_its_first_request_is_never_ready(
    wrap: Callable[..., Wrapped], mode: str, told: str
) -> None:
    wrapped = wrap(mode=mode)
    assert not wrapped.hear("READY=1", seconds=4)
    assert any(f"first request: POST /v1/chat/completions {told}" in message for message in wrapped.heard)


def test_a_slow_start_is_extended_instead_of_killed(wrap: Callable[..., Wrapped]) -> None:
    assert wrap(delay=30).hear("EXTEND_TIMEOUT_USEC=60000000", seconds=5)


def test_a_start_beyond_its_own_limit_is_extended_no_more(wrap: Callable[..., Wrapped]) -> None:
    wrapped = wrap("--start-timeout", "2", delay=30)
    assert wrapped.hear("loading the model (4 s)", seconds=8)
    assert "EXTEND_TIMEOUT_USEC" not in wrapped.heard[-1]


@pytest.mark.parametrize(("end", "status"), [("exit0", 1), ("exit1", 1), ("exit2", 2), ("exit137", 137)])
def test_an_end_nobody_asked_for_is_a_failure_and_keeps_vllm_s_status(
    wrap: Callable[..., Wrapped], end: str, status: int
) -> None:
    """Status 0 is what vLLM ends with when its engine dies; 2 is a wrong flag, on which systemd must not loop."""
    assert wrap(end=end).process.wait(15) == status


def test_a_killed_server_is_a_failure_that_names_the_signal(wrap: Callable[..., Wrapped]) -> None:
    wrapped = wrap(end="die")
    assert wrapped.process.wait(15) == 128 + signal.SIGKILL
    assert wrapped.hear("vllm was killed by SIGKILL")


def test_being_asked_to_stop_is_a_clean_end(wrap: Callable[..., Wrapped]) -> None:
    wrapped = wrap()
    assert wrapped.hear("READY=1")
    wrapped.process.send_signal(signal.SIGTERM)
    assert wrapped.process.wait(15) == 0
    assert wrapped.hear("STOPPING=1")


def test_being_asked_to_stop_while_loading_is_a_clean_end(wrap: Callable[..., Wrapped]) -> None:
    wrapped = wrap(delay=60)
    assert wrapped.hear("loading the model")
    wrapped.process.send_signal(signal.SIGTERM)
    assert wrapped.process.wait(15) == 0


def test_a_server_that_does_not_stop_is_killed_in_the_end(wrap: Callable[..., Wrapped]) -> None:
    wrapped = wrap()
    assert wrapped.hear("READY=1")
    os.kill(wrapped.child(), signal.SIGSTOP)
    wrapped.process.send_signal(signal.SIGTERM)
    assert wrapped.process.wait(30) == 0
    assert "still not ended 20 s after SIGTERM" in wrapped.log


def test_two_servers_of_one_device_start_one_after_the_other(wrap: Callable[..., Wrapped], tmp_path: Path) -> None:
    lock = ("--device-lock", str(tmp_path / "gpu-0.lock"))
    first = wrap(*lock, delay=2)
    assert first.hear("loading the model")
    second = wrap(*lock)
    assert second.hear("waiting until another server has started or stopped on gpu-0")
    assert not second.environment_file.exists()
    assert first.hear("READY=1")
    assert second.hear("READY=1")


def test_a_stop_waits_for_a_start_on_the_same_device(wrap: Callable[..., Wrapped], tmp_path: Path) -> None:
    """Memory given back while another server measures what is free falsifies the measurement."""
    lock = ("--device-lock", str(tmp_path / "gpu-0.lock"))
    serving = wrap(*lock)
    assert serving.hear("READY=1")
    starting = wrap(*lock, delay=3)
    assert starting.hear("loading the model")
    serving.process.send_signal(signal.SIGTERM)
    assert serving.hear("asked to stop; waiting until another server has started on gpu-0")
    assert starting.hear("READY=1")
    assert serving.process.wait(10) == 0


def test_two_stops_do_not_wait_for_each_other(tmp_path: Path) -> None:
    host, lock = module("host"), [tmp_path / "gpu-0.lock"]
    with (
        host.device_locks(lock, fcntl.LOCK_SH, lambda _: False) as first,
        host.device_locks(lock, fcntl.LOCK_SH, lambda _: False) as second,
        host.device_locks(lock, fcntl.LOCK_EX, lambda _: False) as start,
    ):
        assert (first, second, start) == (True, True, False)


def test_secrets_reach_vllm_by_its_environment_and_what_is_systemd_s_does_not(wrap: Callable[..., Wrapped]) -> None:
    wrapped = wrap(watchdog=30)
    assert wrapped.hear("READY=1")
    text = wrapped.environment_file.read_text()
    assert '"VLLM_API_KEY": "secret-key"' in text
    assert "NOTIFY_SOCKET" not in text
    assert "WATCHDOG_" not in text
    assert "secret-key" not in Path(f"/proc/{wrapped.process.pid}/cmdline").read_text()


def test_a_missing_model_ends_the_start_for_good(wrap: Callable[..., Wrapped]) -> None:
    wrapped = wrap("--model-path", "/nowhere/model")
    assert wrapped.process.wait(15) == 2
    assert wrapped.hear("STATUS=cannot start: model /nowhere/model does not exist; fetch it: ansible-playbook")
    assert not wrapped.environment_file.exists()


def test_a_taken_port_is_waited_for_and_its_holder_is_named(wrap: Callable[..., Wrapped]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        wrapped = wrap(port=port)
        assert wrapped.hear(f"waiting for port {port}, taken by ")
        assert f"(pid {os.getpid()}" in wrapped.heard[-1]
    assert wrapped.hear("READY=1")


def test_starts_that_fail_in_a_row_lose_their_cache_once_and_are_given_up(wrap: Callable[..., Wrapped]) -> None:
    first = wrap(name="one", end="exit1")
    compiled = first.environment_file.parent / "cache" / "kernel"
    compiled.write_text("damaged")
    assert first.process.wait(15) == 1
    seen = []
    for _ in range(4):
        wrapped = wrap(name="one", end="exit1")
        seen.append((wrapped.process.wait(15), compiled.exists()))
    assert seen == [(1, True), (1, True), (1, False), (2, False)]
    assert (compiled.parent / "set-aside" / "kernel").read_text() == "damaged"
    assert "given up after 5 failed starts in a row" in wrapped.log
    assert wrap(name="one", end="exit1").process.wait(15) == 1, "a start by hand is tried again"


def test_a_server_that_has_served_is_never_given_up(wrap: Callable[..., Wrapped]) -> None:
    for _ in range(3):
        assert wrap("--start-tries", "2", name="one", end="die").process.wait(15) == 128 + signal.SIGKILL


def test_starts_whose_wrapper_was_killed_count_as_failed(wrap: Callable[..., Wrapped]) -> None:
    for _ in range(2):
        wrapped = wrap("--start-tries", "2", name="one", delay=60)
        assert wrapped.hear("loading the model")
        child = wrapped.child()
        wrapped.process.kill()
        wrapped.process.wait(15)
        os.kill(child, signal.SIGKILL)
    assert wrap("--start-tries", "2", name="one", delay=60).process.wait(15) == 2
