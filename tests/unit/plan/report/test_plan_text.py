"""The report in characters: readable without colours, on narrow terminals, in a log, and for 200 hosts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.load import ROOT
from tests.unit.plan.report.examples import WARNING, eight, guide, many_hosts, one_host, other_hosts
from vllm_fleet.plan.report.bars import bars
from vllm_fleet.plan.report.hosts import Report, host_report
from vllm_fleet.plan.report.text import as_text
from vllm_fleet.plan.report.text_bars import draw
from vllm_fleet.preflight.codes import CODES

GUIDE_AT_100 = """\
                                                weights  overhead  KV cache  spare     context   GiB
 GPU 0  NVIDIA L40S, 45.0 GiB, of which servers may take 42.8
  llm        0.84  ██▒▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓          2.9  2.6 ±0.6      32.3         0.50 ±0.20  38.3
  embedding  0.10                         █░▚       1.1  1.4 ±0.5              1.5  0.50 ±0.20   4.5
  free                                       ·                                                   2.2
 GPU 1  NVIDIA L40S, 45.0 GiB, of which servers may take 42.8
  llm        0.84  ██▒▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓          2.9  2.6 ±0.6      32.3         0.50 ±0.20  38.3
  rerank     0.10                         █░▚       1.1  1.4 ±0.5              1.5  0.50 ±0.20   4.5
  free                                       ·                                                   2.2"""


def test_rows_follow_each_other_as_they_lie_in_the_memory() -> None:
    assert "\n".join(line.plain for line in draw(bars(guide()), 100)) == GUIDE_AT_100


@pytest.mark.parametrize("width", [40, 60, 80, 100, 200])
@pytest.mark.parametrize("made", [guide(), eight()], ids=["guide", "eight"])
def test_a_bar_has_one_column_each_for_every_part_of_the_memory(made: dict[str, object], width: int) -> None:
    lines = [line.plain for line in draw(bars(made), width)]
    glyphs = [line for line in lines if re.search("[█▓▒░·x?]{2}", line)]
    assert all(len(line) <= width for line in glyphs)
    # Rows of one bar: none begins before the former one ended.
    ends = 0
    for line in lines:
        if " GPU" in line:
            ends = 0
        elif match := re.search(r"[█▓▒░·x?]{2,}", line):
            assert match.start() >= ends
            ends = match.end()


def test_a_terminal_of_any_width_is_kept_to() -> None:
    for width in (60, 80, 100, 160):
        for report in (one_host(), many_hosts(), other_hosts()):
            assert max(map(len, as_text(report, width).splitlines())) <= width


def test_in_a_log_sentences_are_whole_and_nothing_is_coloured() -> None:
    text = as_text(one_host())
    assert f"warning  server llm: {WARNING['message']} [plan-model]" in text
    assert "\x1b" not in text
    assert not any(line.endswith(" ") for line in text.splitlines())


def test_colours_change_nothing_but_colours() -> None:
    coloured = as_text(one_host(), 100, colour=True)
    assert "\x1b[" in coloured
    plain = [line.rstrip() for line in re.sub(r"\x1b\[[0-9;]*m", "", coloured).splitlines()]
    assert plain == as_text(one_host(), 100).splitlines()


def test_where_there_is_only_ascii_nothing_else_is_printed() -> None:
    assert all(as_text(report, ascii_only=True).isascii() for report in (one_host(), many_hosts(5), other_hosts()))


@pytest.mark.parametrize(
    "line",
    [
        "gpu-01: 2 x NVIDIA L40S",
        "llm         llm         32804   0, 1   0.84    1,881,611 ±2%   57.4 of 32,768 tokens     an estimate",
        "rerank      rerank      32806   1      0.10    -               -                         an estimate",
        "CUDA_VISIBLE_DEVICES=0,1 vllm serve /var/lib/vllm-fleet/models/llm --dtype float16 --tensor-parallel-size 2",
        "llm        restarts: --gpu-memory-utilization 0.7 -> 0.84, --max-num-seqs 64 is dropped",
        "old-chat   stops, and its unit is removed: it is declared no more",
    ],
)
def test_one_host_is_told_in_full(line: str) -> None:
    assert line in as_text(one_host())


def test_of_many_hosts_the_overview_comes_first_and_those_alike_are_told_once() -> None:
    lines = as_text(many_hosts()).splitlines()
    assert [line.split("  ")[0] for line in lines[2:6]] == [
        "gpu-02",
        "gpu-gone",
        "gpu-001, gpu-002, gpu-003 and 194 more (197 hosts, all alike)",
        "gpu-big",
    ]
    assert lines[2].endswith("not begin: 1 error")
    assert lines[5].endswith("8 x NVIDIA H100 80GB HBM3   2         91%              start llm, own")
    assert len(lines) < 100


def test_every_code_of_the_plan_is_explained_with_an_example() -> None:
    page = Path(ROOT, "docs/plan.md").read_text(encoding="utf-8")
    ours = [code for code, known in CODES.items() if known.source == "serving_plan"]
    assert len(ours) > 1
    assert [code for code in ours if f"\n| `{code}` | " not in page] == []


@pytest.mark.parametrize(
    ("what_if", "sentence"),
    [
        ("", "assumed  no driver says yet which GPUs there are"),
        ("4xL40S", "assumed  planned for 4xL40S in place of what the host has"),
    ],
)
def test_what_is_assumed_is_said(what_if: str, sentence: str) -> None:
    made = guide() | {"assumed": True, "devices": guide()["devices"] if what_if else []}
    assert sentence in as_text(Report((host_report("a", made, [], None),), what_if))
