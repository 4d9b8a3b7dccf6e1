"""Alive is told only while requests are answered or the engine computes."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.notify.wrapped import Wrapped, module


def test_the_watchdog_is_fed_while_requests_are_answered(wrap: Callable[..., Wrapped]) -> None:
    wrapped = wrap(watchdog=3)
    assert wrapped.hear("READY=1")
    assert wrapped.hear("WATCHDOG=1", seconds=3)
    assert wrapped.hear("WATCHDOG=1", seconds=3)


def test_a_frozen_server_is_fed_no_more_and_the_journal_says_since_when(wrap: Callable[..., Wrapped]) -> None:
    wrapped = wrap(watchdog=3)
    assert wrapped.hear("WATCHDOG=1")
    os.kill(wrapped.child(), signal.SIGSTOP)
    time.sleep(1)
    wrapped.forget()
    assert not wrapped.hear("WATCHDOG=1", seconds=4)
    assert any("no sign of life for" in message for message in wrapped.heard)
    assert "POST /v1/chat/completions: no answer within" in wrapped.log


def test_a_frozen_engine_behind_a_green_metrics_page_is_fed_no_more(wrap: Callable[..., Wrapped]) -> None:
    wrapped = wrap(watchdog=3)
    assert wrapped.hear("WATCHDOG=1")
    wrapped.mode.write_text("silent")
    time.sleep(1)
    wrapped.forget()
    assert not wrapped.hear("WATCHDOG=1", seconds=4)


@pytest.mark.parametrize("mode", ["silent computes", "503 computes"])
def test_a_busy_server_is_fed_as_long_as_its_engine_computes(wrap: Callable[..., Wrapped], mode: str) -> None:
    wrapped = wrap(watchdog=6)
    assert wrapped.hear("WATCHDOG=1")
    wrapped.mode.write_text(mode)
    time.sleep(1.5)
    wrapped.forget()
    for _ in range(3):
        assert wrapped.hear("WATCHDOG=1", seconds=6)
    wrapped.mode.write_text("200")
    assert wrapped.hear("STATUS=serving tiny, float16, tensor parallel 2")
    assert "WATCHDOG=trigger" not in "".join(wrapped.heard)


def test_an_engine_that_fails_every_request_is_reported_at_once(wrap: Callable[..., Wrapped]) -> None:
    wrapped = wrap(watchdog=60)
    assert wrapped.hear("READY=1")
    wrapped.mode.write_text("500")
    assert wrapped.hear("WATCHDOG=trigger", seconds=10 + 5)
    assert "every request fails; POST /v1/chat/completions answered 500" in wrapped.heard[-1]


def test_a_server_ended_by_the_watchdog_is_gone_and_its_processes_are_named(wrap: Callable[..., Wrapped]) -> None:
    wrapped = wrap(watchdog=60)
    assert wrapped.hear("READY=1")
    child = wrapped.child()
    os.kill(child, signal.SIGSTOP)
    wrapped.process.send_signal(signal.SIGABRT)
    assert wrapped.process.wait(15) == 128 + signal.SIGABRT
    assert "ended by the watchdog" in wrapped.log
    assert not Path(f"/proc/{child}").exists()


def test_health_tells_busy_from_silent_and_dead() -> None:
    health = module("probe").Health()
    assert not health.missed(5.0, engine_failed=False), "one look tells nothing of movement"
    assert health.missed(6.0, engine_failed=True)
    assert not health.missed(None, engine_failed=True)
    assert not health.missed(6.0, engine_failed=True)
    assert not health.dead
    assert not health.missed(6.0, engine_failed=True)
    assert health.dead
