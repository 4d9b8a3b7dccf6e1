"""Facts of a constructed model, for tests in which most of them do not matter."""

from __future__ import annotations

from vllm_fleet.plan.models.facts import ModelFacts, Weights

MODEL = ModelFacts(
    model="lab/model",
    source="directory",
    architecture="Qwen2ForCausalLM",
    model_type="qwen2",
    kinds=("llm",),
    parameters=1,
    counted=True,
    weights=Weights(1, 1, 1, 0, 2),
    dtype="bfloat16",
    layers=1,
    hidden_size=64,
    intermediate_size=64,
    attention_heads=1,
    kv_heads=1,
    head_size=64,
    vocabulary=64,
    max_model_len=64,
    cache_layers=(),
)
