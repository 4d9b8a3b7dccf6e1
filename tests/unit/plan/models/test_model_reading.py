"""Descriptions become facts, or one sentence why not, whatever is in them."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.load import ROOT, load
from vllm_fleet.plan.models.read import UnreadableModel, interpret
from vllm_fleet.plan.models.shipped import shipped

filters = load("plugins/filter/model_files.py")
TRAINED = ROOT / "vllm_fleet/lab/models/trained"


def description(**config: Any) -> dict[str, Any]:
    known = shipped("Qwen/Qwen2.5-3B-Instruct")
    assert known is not None
    return {**known, "config": {**known["config"], **config}}


@pytest.mark.parametrize("name", ["llm", "embedding", "rerank"])
def test_the_lab_s_models_have_the_bytes_that_lie_on_disk(name: str) -> None:
    directory = TRAINED / name
    if not (directory / "model.safetensors").exists():
        pytest.skip("the lab's models are not trained here: scripts/train-lab-models")
    read = filters.model_description(str(directory))["description"]
    facts = interpret(read, name)
    header = int.from_bytes((directory / "model.safetensors").read_bytes()[:8], "little")
    assert facts.kinds[0] == name
    assert facts.weights.total == (directory / "model.safetensors").stat().st_size - 8 - header
    assert facts.parameters * 2 == facts.weights.total  # float16
    assert facts.source == "controller"
    # config.json alone says the same; it cannot say that the embedding model was saved without its pooler.
    pooler = facts.hidden_size * (facts.hidden_size + 1) if name == "embedding" else 0
    assert interpret({**read, "weights": [], "files": {}}, name).parameters == facts.parameters + pooler


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"architectures": None}, "names no architectures"),
        ({"architectures": ["Qwen3NextForCausalLM"]}, "keeps a state per request"),
        ({"model_type": "own"}, "'own' are not known"),
        ({"num_hidden_layers": 0}, "has no num_hidden_layers"),
        ({"hidden_size": "2048"}, "has no hidden_size"),
        ({"layer_types": ["linear_attention"]}, "layers of type linear_attention"),
        ({"quantization_config": {"quant_method": "exl3"}}, "how 'exl3' stores them is not known"),
    ],
)
def test_what_cannot_be_read_is_said(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(UnreadableModel, match=reason):
        interpret(description(**changes), "a/b")


def test_a_family_nobody_knows_is_planned_by_the_size_of_its_files() -> None:
    facts = interpret({**description(model_type="own"), "files": {"pytorch_model.bin": 6_000_000_000}}, "a/b")
    assert (facts.weights.total, facts.counted, facts.parameters) == (6_000_000_000, False, 3_000_000_000)


def test_a_file_of_the_right_size_confirms_what_config_json_says() -> None:
    known = shipped("BAAI/bge-m3")
    assert known is not None
    pickled = {**known, "published": None, "files": {"pytorch_model.bin": 2_271_145_830}}
    assert interpret(pickled, "BAAI/bge-m3").counted
    assert not interpret({**pickled, "files": {"pytorch_model.bin": 1_000_000_000}}, "BAAI/bge-m3").counted


@pytest.mark.parametrize(
    ("quantization", "method"),
    [
        (None, None),
        ({"quant_method": "awq"}, "awq"),
        ({"quant_method": "compressed_tensors"}, "compressed-tensors"),
        ({"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "NVFP4"}}, "modelopt_fp4"),
        ({"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "FP8"}}, "modelopt"),
    ],
)
def test_the_quantization_in_vllm_s_spelling(quantization: Any, method: str | None) -> None:
    read = {**description(quantization_config=quantization), "weights": [], "files": {"model.safetensors": 1 << 30}}
    read["config"]["model_type"] = "own"
    assert interpret(read, "a/b").quantization == method


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
KEYS = [
    *("architectures", "model_type", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads"),
    *("head_dim", "vocab_size", "layer_types", "rope_scaling", "sliding_window", "quantization_config", "torch_dtype"),
    *("text_config", "vision_config", "auto_map", "id2label", "max_position_embeddings", "kv_lora_rank"),
]


@settings(max_examples=300)
@given(changes=st.dictionaries(st.sampled_from(KEYS), JSON, max_size=3), weights=JSON, files=JSON)
def test_no_description_ends_in_a_traceback(changes: dict[str, Any], weights: Any, files: Any) -> None:
    with contextlib.suppress(UnreadableModel):
        interpret({**description(**changes), "weights": weights, "files": files}, "a/b")
