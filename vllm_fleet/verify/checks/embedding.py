"""Checks of an embedding server's vectors."""

from __future__ import annotations

import math
from collections.abc import Sequence

from vllm_fleet.verify import shapes
from vllm_fleet.verify.checks.common import EMBEDDINGS
from vllm_fleet.verify.client import Client
from vllm_fleet.verify.endpoint import Endpoint
from vllm_fleet.verify.outcome import NotRun, Wrong, excerpt
from vllm_fleet.verify.questions import Questions, Triple
from vllm_fleet.verify.registry import check, check_each

Vector = Sequence[float]

# float16 rounds to about three digits, and a batch rounds differently from a single text.
NORM_TOLERANCE = 0.01
SAME_DIRECTION = 0.999  # cosine
# Untrained weights put all texts close together, and which is closer is chance.
CLOSER_BY = 0.05  # cosine
# Texts of several scripts and lengths: float16 overflows for some texts only.
SCRIPTS = ("Ünïcödé", "Привет, мир", "こんにちは", "مرحبا بالعالم", "😀 emoji 🎉", "x = [i ** 2 for i in range(10)]")
LONGER = (8, 40)  # repetitions of a sentence


@check("embedding", title="embeds the guide's three texts")
def embeds_guide_texts(client: Client, endpoint: Endpoint, questions: Questions) -> None:
    """The guide's own request."""
    shapes.vectors(client.post(EMBEDDINGS, {"input": questions.guide_texts}), len(questions.guide_texts))


@check("embedding", title="sends the same vectors in base64, as the guide's OpenAI client asks for them")
def embeds_in_base64(client: Client, endpoint: Endpoint, questions: Questions) -> None:
    """What that client really sends where encoding_format is not given."""
    texts = questions.guide_texts
    plain = _embed(client, texts)
    packed = shapes.packed_vectors(client.post(EMBEDDINGS, {"input": texts, "encoding_format": "base64"}), len(texts))
    for number, (one, other) in enumerate(zip(plain, packed, strict=True)):
        if len(one) != len(other) or cosine(one, other) < SAME_DIRECTION:
            raise Wrong(
                "the same vector in base64 as in numbers",
                f"others for text {number} from {client.where('POST', EMBEDDINGS)}",
                "another embed_dtype or byte order than float32, little-endian: client libraries read only that",
            )


@check("embedding", title="gives finite vectors for all scripts and lengths")
def vectors_finite(client: Client, endpoint: Endpoint, questions: Questions) -> None:
    """Dify drops a vector with NaN in it, and all later texts get their neighbour's vector."""
    texts = _corpus(questions)
    answer = client.post(EMBEDDINGS, {"input": texts, "truncate_prompt_tokens": -1})
    for text, vector in zip(texts, shapes.vectors(answer, len(texts)), strict=True):
        if not _finite(vector):
            raise Wrong(
                "numbers that are finite",
                f"NaN or infinity for {excerpt(text)!r} from {client.where('POST', EMBEDDINGS)}",
                "float16 overflows for this model on this GPU: declare `dtype: bfloat16` or float32 for it",
            )


@check("embedding", title="gives vectors of one dimension")
def vectors_dimension(client: Client, endpoint: Endpoint, questions: Questions) -> None:
    """A vector store has one dimension per collection."""
    texts = _corpus(questions)
    answer = client.post(EMBEDDINGS, {"input": texts, "truncate_prompt_tokens": -1})
    found = sorted({len(vector) for vector in shapes.vectors(answer, len(texts))})
    if len(found) != 1:
        raise Wrong(
            "vectors of one dimension",
            f"dimensions {', '.join(map(str, found))} from {client.where('POST', EMBEDDINGS)}",
            "replicas that serve different models under one name",
        )


@check("embedding", title="gives vectors of length 1")
def vectors_unit_norm(client: Client, endpoint: Endpoint, questions: Questions) -> None:
    """Vector stores compare by inner product and take it for the cosine."""
    for text, vector in zip(questions.guide_texts, _embed(client, questions.guide_texts), strict=True):
        norm = math.hypot(*vector)
        if abs(norm - 1) > NORM_TOLERANCE:
            raise Wrong(
                "vectors of length 1",
                f"length {norm:.4g} for {excerpt(text)!r} from {client.where('POST', EMBEDDINGS)}",
                "the model's sentence-transformers files (modules.json, 1_Pooling) are missing beside its weights",
            )


@check("embedding", title="keeps the order of a batch")
def keeps_order(client: Client, endpoint: Endpoint, questions: Questions) -> None:
    """Vector i of a batch belongs to text i."""
    singles, batch = _single_and_batch(client, questions)
    for number, single in enumerate(singles):
        near = [cosine(single, vector) for vector in batch]
        if near[number] < max(near) - (1 - SAME_DIRECTION):
            raise Wrong(
                f"text {number} of a batch at place {number}",
                f"it is at place {near.index(max(near))} of the answer of {client.where('POST', EMBEDDINGS)}",
                "a proxy that splits batches and does not put them together again in order",
            )


@check("embedding", title="gives a text the same vector alone and in a batch")
def batch_equals_single(client: Client, endpoint: Endpoint, questions: Questions) -> None:
    """Documents are embedded in batches, questions alone."""
    singles, batch = _single_and_batch(client, questions)
    for text, single in zip(questions.guide_texts, singles, strict=True):
        nearest = max(cosine(single, vector) for vector in batch)
        if nearest < SAME_DIRECTION:
            raise Wrong(
                f"a cosine of at least {SAME_DIRECTION}",
                f"{nearest:.4f} for {excerpt(text)!r} from {client.where('POST', EMBEDDINGS)}",
                "padding that is not masked, or replicas that serve different models under one name",
            )


@check_each("embedding", lambda questions: questions.closer, title="finds the paraphrase closer in {}")
def closer(client: Client, endpoint: Endpoint, triple: Triple) -> None:
    """Than a text about something else."""
    text, paraphrase, unrelated = _embed(client, (triple.text, triple.paraphrase, triple.unrelated))
    near, far = cosine(text, paraphrase), cosine(text, unrelated)
    if near - far < CLOSER_BY:
        raise Wrong(
            f"{excerpt(triple.text)!r} closer to {excerpt(triple.paraphrase)!r} than to {excerpt(triple.unrelated)!r}, "
            f"by {CLOSER_BY} at least",
            f"cosine {near:.3f} against {far:.3f} from {client.where('POST', EMBEDDINGS)}",
            "another model is behind the name, its pooling or tokenizer is wrong, or weights damaged on the way",
        )


def cosine(one: Vector, other: Vector) -> float:
    """The cosine of the angle between two vectors; 0 where one has no direction."""
    lengths = math.hypot(*one) * math.hypot(*other)
    return sum(a * b for a, b in zip(one, other, strict=True)) / lengths if lengths else 0.0


def _corpus(questions: Questions) -> list[str]:
    sentence = questions.closer[0].text if questions.closer else questions.guide_texts[0]
    asked = (text for triple in questions.closer for text in (triple.text, triple.paraphrase, triple.unrelated))
    return [*questions.guide_texts, *asked, *SCRIPTS, *(f"{sentence} " * times for times in LONGER)]


def _finite(vector: Vector) -> bool:
    return all(map(math.isfinite, vector))


def _embed(client: Client, texts: Sequence[str]) -> list[list[float]]:
    """Vectors that can be compared. What makes them incomparable is the finding of a check of its own."""
    found = shapes.vectors(client.post(EMBEDDINGS, {"input": texts}), len(texts))
    if not all(map(_finite, found)):
        raise NotRun("some vectors are not finite, see vectors_finite")
    if len({len(vector) for vector in found}) != 1:
        raise NotRun("vectors of several dimensions, see vectors_dimension")
    return found


def _single_and_batch(client: Client, questions: Questions) -> tuple[list[list[float]], list[list[float]]]:
    singles = [_embed(client, [text])[0] for text in questions.guide_texts]
    batch = _embed(client, questions.guide_texts)
    if {len(vector) for vector in singles} != {len(batch[0])}:
        raise NotRun("vectors of several dimensions, see vectors_dimension")
    return singles, batch
