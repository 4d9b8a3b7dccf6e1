"""Checks of a reranker's scores and rankings."""

from __future__ import annotations

import math
from collections.abc import Sequence

from vllm_fleet.verify import shapes
from vllm_fleet.verify.checks.common import RERANK, SCORE
from vllm_fleet.verify.client import Client
from vllm_fleet.verify.endpoint import Endpoint
from vllm_fleet.verify.outcome import Wrong, excerpt
from vllm_fleet.verify.questions import Questions, Ranking
from vllm_fleet.verify.registry import check, check_each

V1_RERANK = "/v1/rerank"
# float16 rounds, and a batch rounds differently from a single pair.
SAME_SCORE = 0.01
# Untrained weights rank by chance, with scores that differ in the fourth digit: that is no opinion.
LEAST_SPREAD = 0.05
MANY = 1000
_WRONG_ORDER = (
    "another model is behind the name; or its prompt template or architecture override is missing, "
    "as some reranker families need one"
)


@check("rerank", title="scores the guide's single pair")
def score_single(client: Client, endpoint: Endpoint, questions: Questions) -> None:
    """The guide's own request."""
    pair = questions.guide_single
    shapes.scores(
        client.post(SCORE, {"encoding_format": "float", "text_1": pair.text_1, "text_2": pair.text_2}), count=1
    )


@check("rerank", title="scores the guide's batch, the right answer highest")
def score_batch(client: Client, endpoint: Endpoint, questions: Questions) -> None:
    """The guide's own request."""
    batch = questions.guide_batch
    found = shapes.scores(client.post(SCORE, {"text_1": batch.text_1, "text_2": batch.text_2}), len(batch.text_2))
    if any(score > found[batch.best] - LEAST_SPREAD for place, score in enumerate(found) if place != batch.best):
        raise Wrong(
            f"the highest score for {batch.text_2[batch.best]!r}, by {LEAST_SPREAD} at least",
            f"{listed(found)} from {client.where('POST', SCORE)}",
            _WRONG_ORDER,
        )


@check_each("rerank", lambda questions: questions.ranking, title="ranks the documents of {} rightly")
def ranks(client: Client, endpoint: Endpoint, question: Ranking) -> None:
    """Each document once, best first, with the text it was given."""
    body = {"query": question.query, "documents": question.documents}
    results = shapes.ranking(client.post(RERANK, body), len(question.documents))
    where = client.where("POST", RERANK)
    order = [index for index, _, _ in results]
    found = [score for _, score, _ in results]
    if sorted(order) != list(range(len(question.documents))) or found != sorted(found, reverse=True):
        raise Wrong(
            "each document once, by falling score",
            f"documents {order} with scores {listed(found)} from {where}",
            "something between rewrites answers",
        )
    if tuple(order[: len(question.order)]) != question.order or found[0] - found[-1] < LEAST_SPREAD:
        raise Wrong(
            f"the documents in the order {list(question.order)}, the first {LEAST_SPREAD} above the last at least",
            f"{order} with scores {listed(found)} from {where}",
            _WRONG_ORDER,
        )
    for index, _, text in results:
        if text != question.documents[index]:
            raise Wrong(
                f"document {index} with its text {excerpt(question.documents[index])!r}",
                f"{excerpt(text)!r} from {where}",
                "something between rewrites answers",
            )


@check("rerank", title="returns the best top_n, on /v1/rerank as Dify asks")
def rerank_top_n(client: Client, endpoint: Endpoint, questions: Questions) -> None:
    """The first of the whole ranking, and no more."""
    question = questions.ranking[0]
    body = {"query": question.query, "documents": question.documents}
    whole = shapes.ranking(client.post(RERANK, body), len(question.documents))
    answer = client.post(V1_RERANK, {**body, "top_n": 1})
    best = shapes.ranking(answer, count=1)
    if best[0][0] != whole[0][0] or abs(best[0][1] - whole[0][1]) > SAME_SCORE:
        raise Wrong(
            f"document {whole[0][0]} alone, with score {whole[0][1]:.3f}",
            f"{excerpt(answer)} from {client.where('POST', V1_RERANK)}",
            "something between cuts the list before it is sorted; or replicas serve different models under one name",
        )


@check("rerank", title="scores a document alike on /score and /rerank")
def rerank_equals_score(client: Client, endpoint: Endpoint, questions: Questions) -> None:
    """Both are one model's opinion."""
    question = questions.ranking[0]
    count = len(question.documents)
    scored = shapes.scores(client.post(SCORE, {"text_1": question.query, "text_2": question.documents}), count)
    ranked = shapes.ranking(client.post(RERANK, {"query": question.query, "documents": question.documents}), count)
    by_index = {index: score for index, score, _ in ranked}
    if any(abs(by_index.get(place, math.inf) - score) > SAME_SCORE for place, score in enumerate(scored)):
        raise Wrong(
            f"/rerank to score as /score does: {listed(scored)}",
            f"{listed([score for _, score in sorted(by_index.items())])} from {client.where('POST', RERANK)}",
            "the two paths lead to different servers",
        )


@check("rerank", title=f"ranks {MANY} documents")
def ranks_many(client: Client, endpoint: Endpoint, questions: Questions) -> None:
    """Each once, and the right one first: searches hand over whatever they found."""
    batch = questions.guide_batch
    right, wrong = batch.text_2[batch.best], [text for text in batch.text_2 if text != batch.text_2[batch.best]]
    documents = [f"{wrong[number % len(wrong)]} ({number})" for number in range(MANY)]
    place = MANY // 2
    documents[place] = right
    results = shapes.ranking(client.post(RERANK, {"query": batch.text_1, "documents": documents}), MANY)
    order = [index for index, _, _ in results]
    if sorted(order) != list(range(MANY)) or order[0] != place or results[0][1] - results[-1][1] < LEAST_SPREAD:
        raise Wrong(
            f"{MANY} documents, each once, number {place} first, {LEAST_SPREAD} above the last at least",
            f"{len(set(order))} of them, {order[:3]} first, scores {listed([one[1] for one in results[:3]])}, from "
            f"{client.where('POST', RERANK)}",
            "something between cuts or splits long lists of documents; or another model is behind the name",
        )


def listed(values: Sequence[float]) -> str:
    """Scores as messages show them."""
    return "[" + ", ".join(f"{value:.4g}" for value in values) + "]"
