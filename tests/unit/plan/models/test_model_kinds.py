"""What a model is, by its architecture, and whose code it needs."""

from __future__ import annotations

from typing import Any

import pytest

from vllm_fleet.plan.models.catalogue import catalogue
from vllm_fleet.plan.models.config import Config
from vllm_fleet.plan.models.kinds import kinds, label_count, remote_code

KINDS = {
    "Qwen2ForCausalLM": ("llm", "embedding"),
    "Gemma3ForConditionalGeneration": ("llm", "embedding"),
    "ChatGLMModel": ("llm", "embedding"),
    "XLMRobertaModel": ("embedding",),
    "BertModel": ("embedding",),
    "LlamaModel": ("embedding",),
    "NewlyInventedForCausalLM": ("llm", "embedding"),
    "XLMRobertaForSequenceClassification": ("rerank",),
    "Qwen3ForSequenceClassification": ("rerank",),
    "Qwen2ForRewardModel": (),
    "BertForTokenClassification": (),
    "WhisperForConditionalGeneration": (),
}


@pytest.mark.parametrize("architecture", KINDS)
def test_the_kinds_of_an_architecture(architecture: str) -> None:
    assert kinds(architecture, labels=1, sentence_transformer=False) == KINDS[architecture]


def test_a_language_model_with_a_pooling_of_its_own_is_for_embeddings_first() -> None:
    assert kinds("Qwen3ForCausalLM", labels=2, sentence_transformer=True) == ("embedding", "llm")


def test_a_classifier_of_several_labels_ranks_nothing() -> None:
    assert kinds("BertForSequenceClassification", labels=3, sentence_transformer=False) == ()
    assert label_count(Config({"id2label": {"0": "LABEL_0"}})) == 1
    assert label_count(Config({})) == 2


AUTO = {"AutoConfig": "c.C", "AutoModelForCausalLM": "m.M"}
TOKENIZER = {"auto_map": {"AutoTokenizer": ["t.T", None]}, "tokenizer_class": "OwnTokenizer"}
# What it is, its config.json, its tokenizer_config.json, whether it needs remote code.
CODE: list[tuple[str, dict[str, Any], dict[str, Any], bool | None]] = [
    ("plain", {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]}, {}, False),
    ("phi3", {"model_type": "phi3", "architectures": ["Phi3ForCausalLM"], "auto_map": AUTO}, {}, False),
    (
        "deepseek",
        {"model_type": "deepseek_v3", "architectures": ["DeepseekV3ForCausalLM"], "auto_map": AUTO},
        {"tokenizer_class": "LlamaTokenizerFast"},
        False,
    ),
    ("internlm2", {"model_type": "internlm2", "architectures": ["InternLM2ForCausalLM"], "auto_map": AUTO}, {}, True),
    ("minicpm", {"model_type": "minicpm", "architectures": ["MiniCPMForCausalLM"], "auto_map": AUTO}, {}, True),
    ("glm-4", {"model_type": "chatglm", "architectures": ["ChatGLMModel"], "auto_map": AUTO}, TOKENIZER, True),
    (
        "own tokenizer",
        {"model_type": "xverse", "architectures": ["LlamaForCausalLM"], "auto_map": AUTO},
        TOKENIZER,
        True,
    ),
    ("own model", {"model_type": "llama", "architectures": ["OwnForCausalLM"], "auto_map": AUTO}, {}, True),
    ("unheard of", {"model_type": "own", "architectures": ["OwnForCausalLM"]}, {}, None),
]


@pytest.mark.parametrize(("config", "tokenizer", "needed"), [case[1:] for case in CODE], ids=[case[0] for case in CODE])
def test_whether_remote_code_is_needed(config: dict[str, Any], tokenizer: dict[str, Any], needed: bool | None) -> None:
    assert remote_code(Config(config), tokenizer) is needed


def test_the_catalogue_is_that_of_the_pinned_vllm() -> None:
    from vllm_fleet.plan.flags import FlagCatalogue

    known = catalogue()
    assert known.version == FlagCatalogue.load().version
    assert {"Qwen2ForCausalLM", "XLMRobertaModel"} <= set(known.architectures)
    assert "gemma2" in known.float16_refused
    assert "deepseek_v3" in known.mla
