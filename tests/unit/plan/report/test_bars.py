"""Bars hold every byte of a device, once."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.plan.report.examples import GIB, L40S, eight, guide, memory, not_known, plan, processors, server
from vllm_fleet.plan.report.bars import Bar, Part, bars
from vllm_fleet.plan.report.text_bars import draw


def parts(bar: Bar, label: str) -> dict[str, float]:
    """GiB of each part of one row, rounded."""
    (row,) = (row for row in bar.rows if row.label == label)
    return {str(one.part): round(one.size / GIB, 1) for one in row.segments}


def test_a_bar_is_cut_into_servers_and_what_each_takes() -> None:
    first, second = bars(guide())
    assert [row.label for row in first.rows] == ["llm", "embedding", "free"]
    assert [row.label for row in second.rows] == ["llm", "rerank", "free"]
    assert parts(first, "llm") == {"weights": 2.9, "overhead": 2.6, "KV cache": 32.3, "context": 0.5}
    assert parts(first, "embedding") == {"weights": 1.1, "overhead": 1.4, "spare": 1.5, "context": 0.5}
    assert parts(first, "free") == {"free": 2.2}


def test_the_kv_cache_is_off_by_what_the_rest_of_its_share_is_off_by() -> None:
    llm = bars(guide())[0].rows[0]
    assert llm.amount(Part.KV_CACHE).error == llm.amount(Part.OVERHEAD).error == int(0.6 * GIB)
    # On processors it has a size of its own.
    assert bars(processors())[0].rows[0].amount(Part.KV_CACHE).error == 0


def test_devices_on_which_the_same_lies_share_a_bar() -> None:
    assert [bar.indices for bar in bars(eight())] == [(0,), (1, 2, 3, 4, 5, 6), (7,)]


def test_what_others_hold_comes_first_and_an_unknown_model_takes_its_share() -> None:
    held, *_, last = bars(eight())
    assert (held.rows[0].label, held.held) == ("held by others", 3 * GIB)
    assert parts(last, "own") == {"unknown": 8.0}


def test_on_processors_all_ranks_lie_in_the_main_memory() -> None:
    (bar,) = bars(processors())
    assert bar.rows[0].ranks == 2
    assert parts(bar, "llm")["KV cache"] == 2.0


def test_nothing_is_said_of_what_is_not_known() -> None:
    made = processors()
    made["servers"][0]["memory"] = None
    line = next(line.plain for line in draw(bars(made), 100) if "llm" in line.plain)
    assert line.split() == ["llm", "x2", "?"]


def test_without_devices_there_are_no_bars() -> None:
    assert bars(not_known()) == ()


AMOUNTS = st.builds(memory, st.floats(0, 30), st.floats(0, 4), st.floats(0, 1), st.floats(0, 30))


@given(st.lists(st.tuples(AMOUNTS | st.none(), st.floats(0.01, 0.9)), min_size=1, max_size=5), st.integers(0, 20))
def test_segments_add_up_to_the_device_or_show_by_how_much_it_is_too_small(
    servers: list[tuple[dict[str, Any] | None, float]], held: int
) -> None:
    made = plan("h", [L40S], [server(f"s{n}", n, [0], share, amounts) for n, (amounts, share) in enumerate(servers)])
    made["devices"][0]["held_bytes"] = held * GIB
    (bar,) = bars(made)
    total = sum(segment.size for row in bar.rows for segment in row.segments)
    assert bar.scale == total >= bar.memory
    assert [row.label for row in bar.rows if row.number is not None] == [f"s{n}" for n in range(len(servers))]
    if all(amounts is None for amounts, _ in servers) and not held:
        assert bar.taken == pytest.approx(bar.memory * sum(share for _, share in servers), abs=5)
