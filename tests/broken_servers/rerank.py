"""Rerankers that are wrong in one way."""

from __future__ import annotations

from tests.broken_servers.broken import Broken, rewriting, under_load
from tests.broken_servers.stub import QUESTIONS, Answer, Json, error


def _two_labels(request: Json, body: Json) -> None:
    if body["data"] and "num_classes" in body["data"][0]:
        body["data"][0]["num_classes"] = 2


def _null_scores(request: Json, body: Json) -> None:
    for entry in body["data"]:
        if "score" in entry:
            entry["score"] = None


def _batch_backwards(request: Json, body: Json) -> None:
    """The scores of a batch, not of a ranking's documents."""
    if len(body["data"]) == 2 and "score" in body["data"][0]:
        first, second = body["data"]
        first["score"], second["score"] = second["score"], first["score"]


def _ignore_top_n(request: Json, body: Json) -> None:
    if request.get("top_n") == 1:
        body["results"] *= 2


def _worst_for_top_n(request: Json, body: Json) -> None:
    if request.get("top_n") == 1:
        body["results"][0].update(index=0, relevance_score=0.01)


def _half(request: Json, body: Json) -> None:
    for entry in body["results"]:
        entry["relevance_score"] /= 2


def _lose_text(request: Json, body: Json) -> None:
    for entry in body["results"]:
        entry["document"]["text"] = "x"


def _unsorted(request: Json, body: Json) -> None:
    body["results"].sort(key=lambda one: one["index"])


def _chinese_backwards(request: Json, body: Json) -> None:
    if "法国" in request["query"]:
        for entry in body["results"]:
            entry["relevance_score"] = 1 - entry["relevance_score"]
        body["results"].reverse()


def _first_hundred(request: Json, body: Json) -> None:
    del body["results"][100:]


def _too_large(path: str, request: Json, answer: Answer) -> Answer:
    return error(413, "Request Entity Too Large") if len(request.get("documents", ())) > 100 else answer


def _missing_pair(request: Json, body: Json) -> None:
    if len(body["data"]) == 1 and "score" in body["data"][0]:
        body["data"] = []


def _swap(answer: Answer) -> Answer:
    changed = rewriting(lambda request, body: _reverse_scores(body), "results")
    return changed("", {}, answer)


def _reverse_scores(body: Json) -> None:
    for entry in body["results"]:
        entry["relevance_score"] = 0.5


BROKEN = [
    Broken(
        id="ordinary_classifier",
        wrong="an ordinary classifier in the reranker's place",
        kind="rerank",
        fails=("kind",),
        message="2 labels",
        fault=rewriting(_two_labels, "data"),
    ),
    Broken(
        id="order_inverted",
        wrong="the order is inverted",
        kind="rerank",
        fails=("score_batch", "ranks_*"),
        message="another model is behind the name",
        rescore=lambda score: 1 - score,
    ),
    Broken(
        id="scores_constant",
        wrong="every document gets the same score",
        kind="rerank",
        fails=("score_batch", "ranks_*"),
        message="0.5, 0.5",
        rescore=lambda score: 0.5,
    ),
    Broken(
        id="right_by_chance",
        wrong="untrained weights: an order there is, but scores differ in the fourth digit",
        kind="rerank",
        fails=("score_batch", "ranks_*"),
        message="0.05 above the last",
        rescore=lambda score: 0.12 + score / 1000,
    ),
    Broken(
        id="chinese_inverted",
        wrong="the tokenizer does not know Chinese: documents are ranked the wrong way",
        kind="rerank",
        fails=("ranks_capital_of_france_chinese",),
        message="the documents in the order [1]",
        fault=rewriting(_chinese_backwards, "results"),
    ),
    Broken(
        id="not_sorted",
        wrong="results are not sorted by score",
        kind="rerank",
        fails=("ranks_*", "rerank_top_n"),
        message="each document once, by falling score",
        fault=rewriting(_unsorted, "results"),
    ),
    Broken(
        id="null_scores",
        wrong="scores overflow: null instead of numbers",
        kind="rerank",
        fails=("score_single", "score_batch", "rerank_equals_score"),
        message="finite",
        fault=rewriting(_null_scores, "data"),
    ),
    Broken(
        id="single_pair_lost",
        wrong="a single pair gets no score",
        kind="rerank",
        fails=("score_single",),
        message="a list of 1 scores",
        fault=rewriting(_missing_pair, "data"),
    ),
    Broken(
        id="score_batch_inverted",
        wrong="the scores of a batch are in another order than its texts",
        kind="rerank",
        fails=("score_batch",),
        message="the highest score for",
        fault=rewriting(_batch_backwards, "data"),
    ),
    Broken(
        id="two_servers_behind_the_paths",
        wrong="/rerank and /score lead to different servers",
        kind="rerank",
        fails=("rerank_equals_score",),
        message="the two paths lead to different servers",
        fault=rewriting(_half, "results"),
    ),
    Broken(
        id="top_n_ignored",
        wrong="top_n is ignored",
        kind="rerank",
        fails=("rerank_top_n",),
        message="1 results",
        fault=rewriting(_ignore_top_n, "results"),
    ),
    Broken(
        id="top_n_before_sorting",
        wrong="the list is cut to top_n before it is sorted",
        kind="rerank",
        fails=("rerank_top_n",),
        message="before it is sorted",
        fault=rewriting(_worst_for_top_n, "results"),
    ),
    Broken(
        id="other_texts",
        wrong="results carry other texts than the documents",
        kind="rerank",
        fails=tuple(f"ranks_{one.id}" for one in QUESTIONS.ranking),
        message="with its text",
        fault=rewriting(_lose_text, "results"),
    ),
    Broken(
        id="first_hundred_only",
        wrong="of many documents only the first 100 are ranked",
        kind="rerank",
        fails=("ranks_many",),
        message="1000 results",
        fault=rewriting(_first_hundred, "results"),
    ),
    Broken(
        id="long_lists_refused",
        wrong="a proxy refuses long lists of documents",
        kind="rerank",
        fails=("ranks_many",),
        message="HTTP 413",
        fault=_too_large,
    ),
    Broken(
        id="scores_mixed_up",
        wrong="scores are mixed up when several requests are under way",
        kind="rerank",
        fails=("rankings_at_once",),
        message="mixed up between requests",
        fault=under_load(2, _swap),
    ),
]
