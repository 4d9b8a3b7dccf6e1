"""The lab's tiny models: what they learn, and that those kept in the repository have learnt it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jinja2
import pytest

from vllm_fleet.lab.models import corpus
from vllm_fleet.verify.questions import load_questions

TRAINED = corpus.HERE / "trained"
NAMES = ("llm", "embedding", "rerank")


def tensors(model: Path) -> dict[str, dict[str, Any]]:
    """Read the header of a model's safetensors: shape and dtype by name."""
    with (model / "model.safetensors").open("rb") as file:
        header: dict[str, dict[str, Any]] = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return {name: entry for name, entry in header.items() if name != "__metadata__"}


@pytest.mark.parametrize("name", NAMES)
def test_the_models_were_trained_from_todays_questions(name: str) -> None:
    mark = (TRAINED / name / "trained-from.txt").read_text().strip()
    assert mark == corpus.digest(), "the questions or the corpus have changed: run scripts/train-lab-models"


@pytest.mark.parametrize("name", NAMES)
def test_the_models_are_small_and_in_float16(name: str) -> None:
    assert {entry["dtype"] for entry in tensors(TRAINED / name).values()} == {"F16"}
    assert sum(file.stat().st_size for file in (TRAINED / name).rglob("*")) < 15_000_000


@pytest.mark.parametrize(
    ("name", "architecture", "shape"),
    [
        ("llm", "Qwen2ForCausalLM", {"num_attention_heads": 4, "num_key_value_heads": 2}),
        ("embedding", "XLMRobertaModel", {"hidden_size": 1024}),
        ("rerank", "XLMRobertaForSequenceClassification", {"id2label": {"0": "LABEL_0"}}),
    ],
)
def test_the_models_have_the_architectures_of_the_real_ones(
    name: str, architecture: str, shape: dict[str, Any]
) -> None:
    config = json.loads((TRAINED / name / "config.json").read_text())
    assert config["architectures"] == [architecture]
    assert {key: config[key] for key in shape} == shape


def test_every_chat_question_is_learnt_with_a_right_answer() -> None:
    learnt = {json.dumps(one.messages): one.answer for one in corpus.load().dialogues if not one.tools}
    for question in load_questions().chat:
        answer = learnt[json.dumps(question.messages)]
        assert any(text.casefold() in answer.casefold() for text in question.contains_any), question.id


def test_every_tool_question_is_learnt_with_all_its_calls() -> None:
    learnt = {json.dumps(one.messages): one.answer for one in corpus.load().dialogues if one.tools}
    for question in load_questions().tools:
        assert learnt[json.dumps(question.messages)].count("<tool_call>\n{") == len(question.calls), question.id


def test_no_text_has_two_meanings() -> None:
    texts = [text for group in corpus.load().meanings for text in group]
    assert len(texts) == len(set(texts))


def test_the_chat_template_writes_turns_tools_and_their_answers_as_qwen_does() -> None:
    template = jinja2.Environment(autoescape=False).from_string(corpus.CHAT_TEMPLATE.read_text(encoding="utf-8"))
    call = {"function": {"name": "clock", "arguments": '{"zone": "UTC"}'}}
    messages = [
        {"role": "user", "content": "What time is it?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "12:00"},
    ]
    text = template.render(messages=messages, tools=[{"type": "function"}], add_generation_prompt=True)
    assert text.startswith("<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.")
    assert '<tools>\n{"type": "function"}\n</tools>' in text
    assert text.endswith(
        "<|im_start|>user\nWhat time is it?<|im_end|>\n"
        '<|im_start|>assistant\n<tool_call>\n{"name": "clock", "arguments": {"zone": "UTC"}}\n</tool_call><|im_end|>\n'
        "<|im_start|>user\n<tool_response>\n12:00\n</tool_response><|im_end|>\n<|im_start|>assistant\n"
    )
