"""Small models made for tests: constructed, in the format of real ones."""

from __future__ import annotations

import json
from typing import Any

CONFIG = {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "hidden_size": 8}


def shard(layers: range, padding: int = 0) -> bytes:
    """Return a safetensors file with one matrix per layer; ``padding`` makes its header longer."""
    entries: dict[str, Any] = {"__metadata__": {"padding": " " * padding}}
    for position, layer in enumerate(layers):
        offsets = [position * 128, (position + 1) * 128]
        name = f"model.layers.{layer}.mlp.up_proj.weight"
        entries[name] = {"dtype": "BF16", "shape": [8, 8], "data_offsets": offsets}
    header = json.dumps(entries).encode()
    return len(header).to_bytes(8, "little") + header + bytes(128 * len(layers))


def model(**files: bytes | None) -> dict[str, bytes]:
    """Return a model of two shards by file name; keyword arguments (``config_json``) replace or remove files."""
    shards = [f"model-0000{number}-of-00002.safetensors" for number in (1, 1, 2, 2)]
    weight_map = {f"model.layers.{layer}.mlp.up_proj.weight": name for layer, name in enumerate(shards)}
    made: dict[str, bytes | None] = {
        "config.json": json.dumps(CONFIG).encode(),
        "tokenizer_config.json": b'{"tokenizer_class": "Qwen2Tokenizer", "chat_template": "old", "unk_token": "?"}',
        "model.safetensors.index.json": json.dumps({"weight_map": weight_map}).encode(),
        "model-00001-of-00002.safetensors": shard(range(2)),
        "model-00002-of-00002.safetensors": shard(range(2, 4), padding=100_000),
    }
    made |= {name.replace("_json", ".json").replace("_jinja", ".jinja"): content for name, content in files.items()}
    return {name: content for name, content in made.items() if content is not None}
