"""Records vectors and scores, and checks that a later deployment gives the same."""

from __future__ import annotations

from collections.abc import Sequence

from vllm_fleet.errors import FleetError
from vllm_fleet.verify import shapes
from vllm_fleet.verify.checks.common import EMBEDDINGS, SCORE
from vllm_fleet.verify.checks.embedding import cosine
from vllm_fleet.verify.checks.rerank import SAME_SCORE, listed
from vllm_fleet.verify.client import Client
from vllm_fleet.verify.endpoint import Endpoint
from vllm_fleet.verify.golden import Golden
from vllm_fleet.verify.outcome import NotRun, Wrong, excerpt
from vllm_fleet.verify.questions import Questions
from vllm_fleet.verify.registry import check_each

SAME_VECTOR = 0.999  # cosine
_NOTHING = "nothing is recorded of a model {}: record it with --record-golden"
_OTHERWISE = (
    "another pooling or normalisation after an upgrade (modules.json and 1_Pooling must be in the copy), another dtype "
    "or another revision of the model: whatever was indexed with the former has to be indexed again"
)


def record(endpoints: Sequence[Endpoint], questions: Questions, timeout: float) -> Golden:
    """Ask for the vectors and scores that a later deployment is to be compared with.

    Raises:
        FleetError: a server did not answer as it should.
    """
    vectors, scores = {}, {}
    texts = [*questions.guide_texts, *(text for one in questions.closer for text in (one.text, one.unrelated))]
    for endpoint in endpoints:
        client = Client(endpoint, timeout)
        try:
            if endpoint.kind == "embedding":
                vectors[endpoint.model] = list(zip(texts, _vectors(client, texts), strict=True))
            elif endpoint.kind == "rerank":
                asked = [(one.query, one.documents) for one in questions.ranking]
                scores[endpoint.model] = [(query, found, _scores(client, query, found)) for query, found in asked]
        except Wrong as wrong:
            raise FleetError(f"Nothing was recorded: {client.redacted(str(wrong))}.") from None
        finally:
            client.close()
    return Golden(vectors, scores)


def _recorded(questions: Questions) -> list[Golden]:
    return [questions.golden] if questions.golden else []


@check_each("embedding", _recorded, title="gives the {} vectors recorded before")
def vectors_equal(client: Client, endpoint: Endpoint, golden: Golden) -> None:
    """Vectors that differ from those in a vector store find the wrong neighbours, without any error."""
    recorded = golden.vectors.get(endpoint.model)
    if recorded is None:
        raise NotRun(_NOTHING.format(endpoint.model))
    found = _vectors(client, [text for text, _ in recorded])
    for (text, before), now in zip(recorded, found, strict=True):
        if len(before) != len(now) or cosine(before, now) < SAME_VECTOR:
            nearness = f"a cosine of {cosine(before, now):.4f}" if len(before) == len(now) else f"{len(now)} numbers"
            raise Wrong(
                f"the vector recorded for {excerpt(text)!r}, {len(before)} numbers, a cosine of {SAME_VECTOR} at least",
                f"{nearness} from {client.where('POST', EMBEDDINGS)}",
                _OTHERWISE,
            )


@check_each("rerank", _recorded, title="gives the {} scores recorded before")
def scores_equal(client: Client, endpoint: Endpoint, golden: Golden) -> None:
    """Thresholds that were set for former scores empty a search, without any error."""
    recorded = golden.scores.get(endpoint.model)
    if recorded is None:
        raise NotRun(_NOTHING.format(endpoint.model))
    for query, documents, before in recorded:
        now = _scores(client, query, documents)
        if any(abs(one - other) > SAME_SCORE for one, other in zip(before, now, strict=True)):
            raise Wrong(
                f"the scores recorded for {excerpt(query)!r}, {listed(before)}, within {SAME_SCORE}",
                f"{listed(now)} from {client.where('POST', SCORE)}",
                _OTHERWISE,
            )


def _vectors(client: Client, texts: Sequence[str]) -> list[list[float]]:
    return shapes.vectors(client.post(EMBEDDINGS, {"input": texts}), len(texts))


def _scores(client: Client, query: str, documents: Sequence[str]) -> list[float]:
    return shapes.scores(client.post(SCORE, {"text_1": query, "text_2": documents}), len(documents))
