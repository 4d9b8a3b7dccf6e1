"""A small fixed load per kind: all requests at once must be answered as they are alone. Its figures are reported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vllm_fleet.verify import shapes
from vllm_fleet.verify.checks.chat import is_right
from vllm_fleet.verify.checks.common import CHAT, EMBEDDINGS, RERANK
from vllm_fleet.verify.checks.embedding import SAME_DIRECTION, cosine
from vllm_fleet.verify.checks.rerank import SAME_SCORE
from vllm_fleet.verify.client import Client, Stream
from vllm_fleet.verify.endpoint import Endpoint
from vllm_fleet.verify.outcome import Figure, NotRun, Wrong, excerpt
from vllm_fleet.verify.questions import Questions
from vllm_fleet.verify.registry import check

CHATS, TOKENS = 8, 64
# What Dify has under way when it fills a knowledge base: 4 workers with 10 threads, one text each.
TEXTS = 40
RANKINGS = 8
_MIXED_UP = "answers are mixed up between requests, or replicas serve different models under one name"

Body = Mapping[str, Any]


@check("llm", title=f"answers {CHATS} questions at once as it answers them alone")
def chats_at_once(client: Client, endpoint: Endpoint, questions: Questions) -> list[Figure]:
    """Each with its own answer, and each as many tokens as it was asked for."""
    asked = [one for one in questions.chat if not one.skip and not one.json and one.request.get("temperature") == 0]
    right = [one for one in asked if is_right(shapes.reply(client.post(CHAT, _chat(one.messages))).text, one)]
    if not right:
        raise NotRun("alone no answer is right either, see the checks answers_*")
    chosen = [right[number % len(right)] for number in range(CHATS)]
    bodies = [_chat(one.messages) | {"ignore_eos": True, "max_tokens": TOKENS} for one in chosen]
    answers = client.post_at_once(CHAT, bodies)
    tokens = 0
    for question, (answer, _) in zip(chosen, answers, strict=True):
        text = shapes.reply(answer).text
        tokens += shapes.counted(answer, "completion_tokens")
        if not is_right(text, question):
            raise Wrong(
                "each answer as right as alone",
                f"{excerpt(text)!r} without {question.contains_any[0]!r} in it from {client.where('POST', CHAT)}",
                _MIXED_UP,
            )
    first = _first_text(client.stream(CHAT, bodies[0]))
    slowest = max(time for _, time in answers)
    return [
        *([Figure("first_token_seconds", first)] if first else []),
        Figure("slowest_seconds", slowest),
        Figure("tokens_per_second", tokens / slowest),
    ]


@check("embedding", title=f"embeds {TEXTS} texts at once, one by one, as it embeds them alone")
def texts_at_once(client: Client, endpoint: Endpoint, questions: Questions) -> list[Figure]:
    """Each with its own vector, and none refused: Dify does not try again."""
    texts = [text for one in questions.closer for text in (one.text, one.unrelated)] or list(questions.guide_texts)
    alone = [shapes.vectors(client.post(EMBEDDINGS, {"input": [text]}), 1)[0] for text in texts]
    places = [number % len(texts) for number in range(TEXTS)]
    answers = client.post_at_once(EMBEDDINGS, [{"input": [texts[place]]} for place in places])
    for place, (answer, _) in zip(places, answers, strict=True):
        vector, text = shapes.vectors(answer, 1)[0], excerpt(texts[place])
        # Also where a vector has no direction, which is another check's finding.
        if vector != alone[place] and (same := cosine(vector, alone[place])) < SAME_DIRECTION:
            raise Wrong(
                "each text's vector as alone",
                f"a cosine of {same:.4f} for {text!r} from {client.where('POST', EMBEDDINGS)}",
                _MIXED_UP,
            )
    slowest = max(time for _, time in answers)
    return [Figure("slowest_seconds", slowest), Figure("texts_per_second", TEXTS / slowest)]


@check("rerank", title=f"ranks {RANKINGS} questions at once as it ranks them alone")
def rankings_at_once(client: Client, endpoint: Endpoint, questions: Questions) -> list[Figure]:
    """Each with its own scores."""
    asked = questions.ranking
    bodies = [{"query": one.query, "documents": one.documents} for one in asked]
    alone = [_scores(client.post(RERANK, body), body) for body in bodies]
    places = [number % len(asked) for number in range(RANKINGS)]
    answers = client.post_at_once(RERANK, [bodies[place] for place in places])
    for place, (answer, _) in zip(places, answers, strict=True):
        found, query = _scores(answer, bodies[place]), excerpt(asked[place].query)
        if any(abs(one - other) > SAME_SCORE for one, other in zip(found, alone[place], strict=True)):
            raise Wrong(
                "each question's scores as alone",
                f"{found} instead of {alone[place]} for {query!r} from {client.where('POST', RERANK)}",
                _MIXED_UP,
            )
    documents = sum(len(asked[place].documents) for place in places)
    slowest = max(time for _, time in answers)
    return [Figure("slowest_seconds", slowest), Figure("documents_per_second", documents / slowest)]


def _chat(messages: Sequence[Body]) -> dict[str, Any]:
    return {"messages": messages, "temperature": 0, "max_tokens": TOKENS}


def _first_text(stream: Stream) -> float | None:
    """Seconds until the first text came."""
    for chunk, seconds in zip(stream.chunks, stream.times, strict=True):
        if any(choice.get("delta", {}).get("content") for choice in chunk.get("choices", ())):
            return seconds
    return None


def _scores(answer: Mapping[str, Any], body: Body) -> list[float]:
    """By document, whatever their order in the ranking."""
    results = shapes.ranking(answer, len(body["documents"]))
    return [score for _, score, _ in sorted(results, key=lambda one: one[0])]
