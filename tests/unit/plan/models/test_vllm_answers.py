"""Facts from config.json are those that vLLM's own ModelConfig has, for answers recorded by ask_vllm.py."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from vllm_fleet.plan.models.facts import ModelFacts
from vllm_fleet.plan.models.read import interpret

ANSWERS: dict[str, dict[str, Any]] = json.loads(
    Path(__file__).with_name("vllm_answers.json").read_text(encoding="utf-8")
)


def facts_from(files: dict[str, Any], name: str) -> ModelFacts:
    description = {
        "config": files["config.json"],
        "tokenizer_config": files.get("tokenizer_config.json"),
        "max_seq_length": files.get("sentence_bert_config.json", {}).get("max_seq_length"),
        "sentence_transformer": "modules.json" in files,
        "files": {"model.safetensors": 1 << 30},
    }
    return interpret(description, name)


@pytest.mark.parametrize("name", ANSWERS)
def test_facts_are_vllm_s(name: str) -> None:
    facts, answer = facts_from(ANSWERS[name]["files"], name), ANSWERS[name]["vllm"]
    windows: Counter[str] = Counter()
    for group in facts.cache_layers or ():
        windows[str(group.window)] += group.count
    assert {
        "runner": "generate" if facts.kinds[0] == "llm" else "pooling",
        "max_model_len": facts.default_max_model_len or facts.max_model_len,
        "hidden_size": facts.hidden_size,
        "layers": facts.layers,
        "attention_heads": facts.attention_heads,
        "kv_heads": facts.kv_heads,
        "head_size": facts.head_size,
        "vocabulary": facts.vocabulary,
        "experts": facts.experts or 0,
        "mla": facts.kv_lora_rank is not None,
        # vLLM says of an encoder, too, how far its layers look; it caches nothing.
        "windows": dict(windows) or answer["windows"],
    } == answer
