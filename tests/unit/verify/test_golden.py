"""Vectors and scores that were recorded must still be got: whatever changes them quietly is noticed."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from tests.broken_servers.broken import failed, on_vectors
from tests.broken_servers.stub import QUESTIONS, Fault, Json, healthy, serving, unchanged
from vllm_fleet.errors import FleetError
from vllm_fleet.verify import golden
from vllm_fleet.verify.checks.golden import record
from vllm_fleet.verify.outcome import Status
from vllm_fleet.verify.questions import Questions
from vllm_fleet.verify.run import verify_server


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Questions:
    """With what was recorded from healthy servers."""
    file = tmp_path_factory.mktemp("golden") / "golden.json"
    with serving("embedding") as embedding, serving("rerank") as rerank, serving("llm") as llm:
        file.write_text(golden.as_json(record([embedding, rerank, llm], QUESTIONS, 20)), encoding="utf-8")
    return replace(QUESTIONS, golden=golden.read(file))


def _pooled_otherwise(request: Json, data: list[Json]) -> None:
    for entry in data:
        vector = [entry["embedding"][0] + 0.1, *entry["embedding"][1:]]
        entry["embedding"] = [one / math.hypot(*vector) for one in vector]


def _cut(request: Json, data: list[Json]) -> None:
    for entry in data:
        entry["embedding"] = entry["embedding"][:32]


@pytest.mark.parametrize("kind", ["embedding", "rerank"])
def test_the_same_server_gives_what_was_recorded(kind: str, questions: Questions) -> None:
    with serving(kind) as endpoint:
        result = verify_server(endpoint, questions, 20)
    assert failed(result) == {}
    assert result.outcomes[-1].check in ("vectors_equal_golden", "scores_equal_golden")
    assert result.outcomes[-1].status is Status.PASSED


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (on_vectors(_pooled_otherwise), "a cosine of 0.99"),
        (on_vectors(_cut), "64 numbers, a cosine of 0.999 at least | 32"),
    ],
)
def test_other_vectors_than_recorded_are_noticed(questions: Questions, fault: Fault, words: str) -> None:
    with serving("embedding", fault) as endpoint:
        found = failed(verify_server(endpoint, questions, 20, only=frozenset({"vectors_equal_golden"})))
    assert set(found) == {"vectors_equal_golden"}
    assert words in found["vectors_equal_golden"]
    assert "1_Pooling" in found["vectors_equal_golden"]


def test_scores_on_another_scale_are_noticed_by_nothing_else(questions: Questions) -> None:
    with serving("rerank", healthy, rescore=lambda score: 10 * score - 5) as endpoint:
        found = failed(verify_server(endpoint, questions, 20))
    assert set(found) == {"scores_equal_golden"}


def test_a_model_of_which_nothing_is_recorded_is_not_judged(questions: Questions) -> None:
    with serving("rerank", rescore=unchanged) as endpoint:
        none = replace(questions, golden=golden.Golden({}, {}))
        outcome = verify_server(endpoint, none, 20).outcomes[-1]
    assert (outcome.status, outcome.reason) == (
        Status.NOT_RUN,
        "nothing is recorded of a model tiny-rerank: record it with --record-golden",
    )


@pytest.mark.parametrize("text", ["", "[]", "{}", json.dumps({"vectors": {"m": [["text"]]}, "scores": {}})])
def test_a_file_that_was_not_recorded_is_refused_by_name(tmp_path: Path, text: str) -> None:
    file = tmp_path / "golden.json"
    file.write_text(text)
    with pytest.raises(FleetError, match=r"golden\.json: this is not what --record-golden writes"):
        golden.read(file)
