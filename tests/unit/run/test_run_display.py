"""What is on the screen while a run goes on, and what a log without a terminal holds."""

import io
from collections.abc import Sequence
from typing import Any

import pytest
from rich.console import Console
from run_builders import START, begin, failed, ok, play, retry, task

from vllm_fleet.run.display import duration, host_names
from vllm_fleet.run.display_live import LiveDisplay, draw
from vllm_fleet.run.display_plain import PlainDisplay
from vllm_fleet.run.events import RunState, apply, fold
from vllm_fleet.run.hints import hint_for
from vllm_fleet.run.logs import History

LONG_WAIT = [play("Install vLLM"), task("Install the wheels", 5, role="vllm_runtime"), begin("gpu-1", 5)]


def screen(state: RunState, at: float, history: History | None = None, plays: int | None = 5) -> str:
    console = Console(record=True, width=90, file=io.StringIO())
    console.print(draw(state, START + at, START, plays, history or History()))
    return console.export_text()


def plain(events: Sequence[dict[str, Any]], until: float = 0.0) -> list[str]:
    """The lines for `events`, then for the seconds of silence until `until`."""
    stream, state = io.StringIO(), RunState()
    display = PlainDisplay(3, History(), stream)
    for event in events:
        before, state = state, apply(state, event)
        display.update(before, state)
    for second in range(int(state.now - START), int(until)):
        display.tick(state, START + second)
    return stream.getvalue().splitlines()


def test_the_screen_shows_stage_host_task_and_times() -> None:
    text = screen(fold(LONG_WAIT), at=67)
    assert "Stage 1 of 5: Install vLLM" in text
    assert "gpu-1: vllm_runtime: Install the wheels" in text
    assert "1:02" in text
    assert "1:07" in text


def test_a_task_gets_a_hint_once_it_is_slow_and_not_before() -> None:
    assert "2 GB of wheels" not in screen(fold(LONG_WAIT), at=14)
    assert "2 GB of wheels" in screen(fold(LONG_WAIT), at=16)


def test_the_screen_tells_how_long_it_took_last_time_and_how_many_tasks_there_were() -> None:
    history = History(41, {("Install vLLM", "vllm_runtime: Install the wheels"): 130.0})
    text = screen(fold(LONG_WAIT), at=30, history=history)
    assert "It took 2:10 last time." in text
    assert "0 of about 41 tasks done" in text


def test_the_screen_shows_what_the_last_attempt_said() -> None:
    text = screen(fold([*LONG_WAIT, retry("gpu-1", 3, 60, 20, stdout="3.1 of 6.2 GB")]), at=21)
    assert "gpu-1, try 4 of 60: 3.1 of 6.2 GB" in text


def test_fifty_hosts_fit_on_the_screen() -> None:
    hosts = [f"gpu-{number}" for number in range(50)]
    events = [*LONG_WAIT[:2], *map(begin, hosts), *(retry(host, 1, 9, stdout="loading") for host in hosts)]
    text = screen(fold(events), at=20)
    assert len(text.splitlines()) < 12
    assert "and 46 more" in text


def test_square_brackets_in_names_are_not_taken_for_markup() -> None:
    assert "[red]x[/red]" in screen(fold([play("p"), task("[red]x[/red]")]), at=1)


def test_a_finished_stage_leaves_a_line_on_the_terminal() -> None:
    console = Console(record=True, width=90, file=io.StringIO(), force_terminal=True, _environ={})
    display, state = LiveDisplay(console, 2, History()), RunState()
    display.start()
    for event in [
        play("One"),
        task("t"),
        ok("h", 3, changed=True),
        play("Two", 4),
        task("u", 4),
        failed("h", 5, msg="x"),
    ]:
        before, state = state, apply(state, event)
        display.update(before, state)
    display.stop()
    text = console.export_text()
    assert "One: 1 task, 1 with changes, 4 s" in text
    assert "h: u: failed" in text


def test_the_plain_log_names_stages_and_only_tasks_that_matter() -> None:
    events = [
        play("One"),
        *(task("quick"), ok("h", 0.1)),
        *(task("changes", 0.2), ok("h", 0.3, changed=True)),
        *(task("slow", 1), ok("h", 8)),
        *(task("breaks", 8), failed("h", 9, msg="x")),
        play("Two", 9),
    ]
    assert plain(events) == [
        "== Stage 1 of 3: One",
        "   changed     h: changes (0 s)",
        "   ok          h: slow (7 s)",
        "   FAILED      h: breaks (1 s)",
        "== Stage 2 of 3: Two",
    ]


def test_the_plain_log_gives_a_sign_of_life_every_thirty_seconds() -> None:
    lines = plain(LONG_WAIT, until=100)
    beats = [line for line in lines if "..." in line]
    assert len(beats) == 3
    assert "gpu-1: vllm_runtime: Install the wheels (30 s" in beats[0]
    assert any("2 GB of wheels" in line for line in lines)


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (59.9, "59 s"), (102, "1:42"), (3723, "1:02:03")])
def test_times_are_readable(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_many_host_names_are_shortened() -> None:
    assert host_names(("a", "b", "c", "d", "e")) == "a, b, c, d and 1 more"


@pytest.mark.parametrize(
    ("stage", "task_name", "word"),
    [
        ("Install vLLM", "vllm_runtime: Install vLLM and its dependencies", "wheels"),
        ("Serve them", "model_server: Start the model servers", "first real request"),
        ("Fetch the models", "model_store: Download the model files", "continues"),
        ("Drivers", "Install the driver", "kernel"),
    ],
)
def test_slow_work_has_a_reason(stage: str, task_name: str, word: str) -> None:
    assert word in (hint_for(stage, task_name) or "")
