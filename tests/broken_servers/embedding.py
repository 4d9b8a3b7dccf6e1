"""Embedding servers that are wrong in one way."""

from __future__ import annotations

import base64
import itertools
import json
import math
import struct
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tests.broken_servers.broken import Broken, on_vectors, rewriting, under_load
from tests.broken_servers.stub import DIMENSION, QUESTIONS, Answer, Fault, Json

_GUIDE = list(QUESTIONS.guide_texts)


def _unit(vector: Sequence[float]) -> list[float]:
    length = math.hypot(*vector)
    return [one / length for one in vector]


def _change(answer: Answer, change: Any) -> Answer:
    """Change every vector, whether sent as numbers or in base64."""
    if not isinstance(answer.body, dict) or not answer.body.get("data") or "embedding" not in answer.body["data"][0]:
        return answer
    body = json.loads(json.dumps(answer.body))
    for entry in body["data"]:
        if isinstance(entry["embedding"], str):
            raw = struct.unpack(f"<{DIMENSION}f", base64.b64decode(entry["embedding"]))
            changed = change(entry["index"], list(raw))
            entry["embedding"] = base64.b64encode(struct.pack(f"<{len(changed)}f", *changed)).decode()
        else:
            entry["embedding"] = change(entry["index"], entry["embedding"])
    return replace(answer, body=body)


def _all(change: Any) -> Fault:
    return lambda path, request, answer: _change(answer, change)


def _null_in_long_texts(request: Json, data: list[Json]) -> None:
    if "truncate_prompt_tokens" in request:
        data[-1]["embedding"][3] = None


def _cut_some(request: Json, data: list[Json]) -> None:
    if "truncate_prompt_tokens" in request:
        data[-1]["embedding"] = data[-1]["embedding"][:-1]


def _shuffle(path: str, request: Json, answer: Answer) -> Answer:
    """Vectors 0 and 2 of the guide's texts change places, in numbers and in base64."""
    if request.get("input") != _GUIDE or not isinstance(answer.body, dict) or "data" not in answer.body:
        return answer
    body = json.loads(json.dumps(answer.body))
    first, last = body["data"][0], body["data"][2]
    first["embedding"], last["embedding"] = last["embedding"], first["embedding"]
    return replace(answer, body=body)


def _drift(path: str, request: Json, answer: Answer) -> Answer:
    """Padding that is not masked turns the vectors of batches."""
    if request.get("input") != _GUIDE:
        return answer
    return _change(answer, lambda index, vector: _unit([vector[0] + 0.2, *vector[1:]]))


def _two_replicas() -> Fault:
    """Every second answer is another model's."""
    number = itertools.count()

    def fault(path: str, request: Json, answer: Answer) -> Answer:
        return _change(answer, lambda index, vector: vector[::-1] if next(number) % 2 else vector)

    return fault


def _renumber(request: Json, data: list[Json]) -> None:
    if request["input"] == _GUIDE:
        data[1]["index"] = 0


def _garble_base64(request: Json, body: Json) -> None:
    if body["data"] and isinstance(body["data"][0].get("embedding"), str):
        for entry in body["data"]:
            entry["embedding"] = entry["embedding"][::-1].replace("=", "")


def _big_endian(request: Json, body: Json) -> None:
    if body["data"] and isinstance(body["data"][0].get("embedding"), str):
        for entry in body["data"]:
            raw = struct.unpack(f"<{DIMENSION}f", base64.b64decode(entry["embedding"]))
            entry["embedding"] = base64.b64encode(struct.pack(f">{DIMENSION}f", *raw)).decode()


def _one_direction(request: Json, body: Json) -> None:
    """Characters that the tokenizer does not know: every Arabic text gets the same vector."""
    given = request.get("input", body["data"])
    for entry, text in zip(body["data"], [given] if isinstance(given, str) else given, strict=True):
        if isinstance(entry.get("embedding"), list) and "\u0600" <= text[:1] <= "\u06ff":
            entry["embedding"] = [1.0, *[0.0] * (DIMENSION - 1)]


BROKEN = [
    Broken(
        id="null_in_some_vectors",
        wrong="float16 overflows for some texts: null among the numbers",
        kind="embedding",
        fails=("vectors_finite",),
        message="bfloat16",
        fault=on_vectors(_null_in_long_texts),
    ),
    Broken(
        id="nan_in_all_vectors",
        wrong="NaN in every vector",
        kind="embedding",
        fails=("vectors_finite", "full_length"),
        message="NaN",
        fault=_all(lambda index, vector: [math.nan, *vector[1:]]),
    ),
    Broken(
        id="zero_vectors",
        wrong="every vector is zero",
        kind="embedding",
        fails=("vectors_unit_norm", "closer_*", "embeds_in_base64", "batch_equals_single"),
        message="length 0",
        fault=_all(lambda index, vector: [0.0] * DIMENSION),
    ),
    Broken(
        id="not_normalised",
        wrong="vectors are not normalised: modules.json was not copied",
        kind="embedding",
        fails=("vectors_unit_norm",),
        message="length 2",
        fault=_all(lambda index, vector: [2 * one for one in vector]),
    ),
    Broken(
        id="dimension_cut",
        wrong="some vectors are shorter than others",
        kind="embedding",
        fails=("vectors_dimension",),
        message="63, 64",
        fault=on_vectors(_cut_some),
    ),
    Broken(
        id="batch_shuffled",
        wrong="the order of a batch is not kept",
        kind="embedding",
        fails=("keeps_order",),
        message="place",
        fault=_shuffle,
    ),
    Broken(
        id="batch_drifts",
        wrong="texts get other vectors in a batch than alone",
        kind="embedding",
        fails=("batch_equals_single",),
        message="padding that is not masked",
        fault=_drift,
    ),
    Broken(
        id="hardly_different",
        wrong="untrained weights: all vectors are close together",
        kind="embedding",
        fails=("closer_*",),
        message="by 0.05 at least",
        fault=_all(lambda index, vector: _unit([8.0, *vector[1:]])),
    ),
    Broken(
        id="one_vector_for_all",
        wrong="every text gets the same vector",
        kind="embedding",
        fails=("closer_*",),
        message="another model",
        fault=_all(lambda index, vector: [1.0, *[0.0] * (DIMENSION - 1)]),
    ),
    Broken(
        id="unknown_script",
        wrong="the tokenizer does not know Arabic",
        kind="embedding",
        fails=("closer_password_arabic",),
        message="its pooling or tokenizer is wrong",
        fault=rewriting(_one_direction, "data"),
    ),
    Broken(
        id="numbered_wrongly",
        wrong="vectors of a batch carry wrong numbers",
        kind="embedding",
        fails=("embeds_guide_texts", "embeds_in_base64", "vectors_unit_norm", "keeps_order", "batch_equals_single"),
        message="index 0, 1",
        fault=on_vectors(_renumber),
    ),
    Broken(
        id="base64_garbled",
        wrong="base64 is no base64",
        kind="embedding",
        fails=("embeds_in_base64",),
        message="base64",
        fault=rewriting(_garble_base64, "data"),
    ),
    Broken(
        id="base64_big_endian",
        wrong="base64 holds numbers in another byte order",
        kind="embedding",
        fails=("embeds_in_base64",),
        message="byte order",
        fault=rewriting(_big_endian, "data"),
    ),
    Broken(
        id="texts_mixed_up",
        wrong="vectors are mixed up when many texts are under way",
        kind="embedding",
        fails=("texts_at_once",),
        message="mixed up between requests",
        fault=under_load(5, lambda answer: _change(answer, lambda index, vector: vector[::-1])),
    ),
]
