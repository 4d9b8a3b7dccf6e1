"""Facts of models for tests: constructed, with the numbers of their published config.json and weights."""

from __future__ import annotations

from typing import Any

from vllm_fleet.plan.declaration import ModelServer
from vllm_fleet.plan.host import Device
from vllm_fleet.plan.models.facts import CacheLayers, ModelFacts, Weights

MIB, GIB = 1 << 20, 1 << 30
# Names, and memory as nvidia-smi reports it.
H100 = Device(0, "NVIDIA H100 80GB HBM3", 81559 * MIB, (9, 0))
L40S = Device(0, "NVIDIA L40S", 46068 * MIB, (8, 9))
RAM = Device(0, "main memory", 24 * GIB)


def decoder(
    model: str,
    layers: int,
    hidden: int,
    width: int,
    heads: int,
    kv_heads: int,
    vocabulary: int,
    parameters: int,
    **more: Any,
) -> ModelFacts:
    """Facts of a model that generates, all of whose layers keep keys and values of 128 elements a head."""
    projections = layers * 2 * hidden * kv_heads * 128 * 2
    return ModelFacts(
        **{
            "model": model,
            "source": "shipped",
            "architecture": "LlamaForCausalLM",
            "model_type": "llama",
            "kinds": ("llm",),
            "parameters": parameters,
            "counted": True,
            "weights": Weights(2 * parameters - projections, projections, 0, 0, 2),
            "dtype": "bfloat16",
            "layers": layers,
            "hidden_size": hidden,
            "intermediate_size": width,
            "attention_heads": heads,
            "kv_heads": kv_heads,
            "head_size": 128,
            "vocabulary": vocabulary,
            "max_model_len": 32768,
            "cache_layers": (CacheLayers(layers, kv_heads, 256),),
            **more,
        }
    )


QWEN_3B = decoder("Qwen/Qwen2.5-3B-Instruct", 36, 2048, 11008, 16, 2, 151936, 3_085_938_688, tied_embeddings=True)
LLAMA_8B = decoder(
    "meta-llama/Llama-3.1-8B-Instruct", 32, 4096, 14336, 32, 8, 128256, 8_030_261_248, max_model_len=131072
)
LLAMA_70B = decoder(
    "meta-llama/Llama-3.1-70B-Instruct", 80, 8192, 28672, 64, 8, 128256, 70_553_706_496, max_model_len=131072
)
# XLM-RoBERTa large with 8,194 positions, stored in float32.
BGE_M3 = ModelFacts(
    model="BAAI/bge-m3",
    source="shipped",
    architecture="XLMRobertaModel",
    model_type="xlm-roberta",
    kinds=("embedding",),
    parameters=567_754_752,
    counted=True,
    weights=Weights(4 * 567_754_752, 0, 0, 0, 4),
    dtype="float32",
    layers=24,
    hidden_size=1024,
    intermediate_size=4096,
    attention_heads=16,
    kv_heads=16,
    head_size=64,
    vocabulary=250002,
    max_model_len=8192,
    cache_layers=(),
)


def server(facts: ModelFacts, **more: Any) -> ModelServer:
    """A server of a model, in float16."""
    return ModelServer(
        **{"name": "a", "kind": facts.kinds[0], "model": facts.model, "port": 32804, "dtype": "float16", **more}
    )
