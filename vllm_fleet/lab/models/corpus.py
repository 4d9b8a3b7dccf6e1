"""What the tiny models learn: the verification's questions with their right answers, and what corpus.yml adds."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from vllm_fleet.verify.questions import DEFAULT_FILE, ChatQuestion, Questions, ToolQuestion, load_questions

HERE = Path(__file__).parent
FILE = HERE / "corpus.yml"
CHAT_TEMPLATE = HERE / "chat_template.jinja"

# How relevant a document is to a question, as a probability.
RIGHT, RELATED, STRANGE = 0.98, 0.3, 0.01


@dataclass(frozen=True)
class Dialogue:
    """Messages, the tools offered with them, and the one answer (as the model writes it, tool calls included)."""

    messages: Sequence[Mapping[str, Any]]
    answer: str
    tools: Sequence[Mapping[str, Any]] | None = None


@dataclass(frozen=True)
class Relevance:
    """A query, a document, and how relevant it is (0 to 1)."""

    query: str
    document: str
    target: float


@dataclass(frozen=True)
class Corpus:
    """Everything that is learnt.

    Attributes:
        dialogues: learnt word by word.
        unknown: the answer to whatever else is asked.
        meanings: groups of texts; those of one group mean the same.
        relevances: pairs for the reranker.
        strangers: documents that are relevant to none of the queries.
        words: for texts that nobody wrote.
        digest: changes whenever any of this does.
    """

    dialogues: tuple[Dialogue, ...]
    unknown: str
    meanings: tuple[tuple[str, ...], ...]
    relevances: tuple[Relevance, ...]
    strangers: tuple[str, ...]
    words: tuple[str, ...]
    digest: str

    def sentence(self, generator: random.Random, most: int = 12) -> str:
        """A text of up to `most` words that means nothing."""
        return " ".join(generator.choices(self.words, k=generator.randint(1, most))).capitalize()


def load() -> Corpus:
    """Read corpus.yml and the built-in questions."""
    own = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    questions = load_questions()
    answers = own["chat"]["answers"]
    dialogues = [
        *(_asked(question, answers) for question in questions.chat),
        *(_called(question) for question in questions.tools),
        *(Dialogue([{"role": "user", "content": asked}], answer) for asked, answer in own["chat"]["dialogues"]),
    ]
    return Corpus(
        dialogues=tuple(dialogues),
        unknown=own["chat"]["unknown"],
        meanings=_meanings(questions, own["paraphrases"]),
        relevances=tuple(_relevances(questions, own["answers"])),
        strangers=tuple(own["strangers"]),
        words=tuple(own["words"].split()),
        digest=digest(),
    )


def digest() -> str:
    """SHA-256 of what the models learn: 64 hexadecimal digits."""
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in (DEFAULT_FILE, FILE, CHAT_TEMPLATE))).hexdigest()


def _asked(question: ChatQuestion, answers: Mapping[str, str]) -> Dialogue:
    return Dialogue(question.messages, answers.get(question.id, question.contains_any[0]))


def _called(question: ToolQuestion) -> Dialogue:
    calls = [
        json.dumps({"name": call.tool, "arguments": call.arguments}, ensure_ascii=False) for call in question.calls
    ]
    return Dialogue(
        question.messages, "\n".join(f"<tool_call>\n{call}\n</tool_call>" for call in calls), question.tools
    )


def _meanings(questions: Questions, paraphrases: Sequence[Sequence[str]]) -> tuple[tuple[str, ...], ...]:
    """Groups of texts with one meaning; groups that share a text are one."""
    groups: list[set[str]] = []
    asked = [{one.text, one.paraphrase} for one in questions.closer]
    alone = [{one.unrelated} for one in questions.closer] + [{text} for text in questions.guide_texts]
    for group in [*map(set, paraphrases), *asked, *alone]:
        shared = [other for other in groups if other & group]
        groups = [other for other in groups if not other & group] + [group.union(*shared)]
    return tuple(tuple(sorted(group)) for group in groups)


def _relevances(questions: Questions, answers: Sequence[Sequence[str]]) -> list[Relevance]:
    single = questions.guide_single
    found = {(single.text_1, single.text_2): RIGHT}
    for query, right, related in answers:
        found |= {(query, right): RIGHT, (query, related): RELATED}
    for question in questions.ranking:
        # Of documents whose order is not asked for, all are beside the point.
        last = len(question.documents) - 1
        ranks = {place: rank for rank, place in enumerate(question.order)}
        for place, document in enumerate(question.documents):
            rank = ranks.get(place, last)
            found[question.query, document] = STRANGE if rank == last else RELATED if rank else RIGHT
    return [Relevance(query, document, target) for (query, document), target in found.items()]
