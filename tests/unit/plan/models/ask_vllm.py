"""Record what vLLM itself makes of a config.json: run by the Python of a vLLM release, it fills in vllm_answers.json.

    PYTHON ask_vllm.py

The file maps names to ``files`` (a model's small files by name) and ``vllm`` (its answers, which this program writes).
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

ANSWERS = Path(__file__).with_name("vllm_answers.json")


def ask(directory: Path) -> dict[str, Any]:
    """Return what vLLM's ModelConfig says of a model without weights."""
    from vllm.config.model import ModelConfig

    config = ModelConfig(model=str(directory), tokenizer=str(directory), skip_tokenizer_init=True)
    window, kinds = config.get_sliding_window(), getattr(config.hf_text_config, "layer_types", None)
    layers = config.get_total_num_hidden_layers()
    windows = [window if kind == "sliding_attention" else None for kind in kinds] if kinds else [window] * layers
    return {
        "runner": config.runner_type,
        "max_model_len": config.max_model_len,
        "hidden_size": config.get_hidden_size(),
        "layers": layers,
        "attention_heads": config.model_arch_config.total_num_attention_heads,
        "kv_heads": config.get_total_num_kv_heads(),
        "head_size": config.get_head_size(),
        "vocabulary": config.get_vocab_size(),
        "experts": config.get_num_experts(),
        "mla": config.use_mla,
        "windows": {str(size): count for size, count in Counter(windows).items()},
    }


def main() -> None:
    """Ask about every model of the file and write the answers beside it."""
    from vllm.model_executor.models import registry

    # vLLM looks at a model's class in a process of its own to keep CUDA out of this one, which has none.
    registry._LazyRegisteredModel.inspect_model_cls = lambda entry: registry._ModelInfo.from_model_cls(
        entry.load_model_cls()
    )
    models = json.loads(ANSWERS.read_text(encoding="utf-8"))
    for entry in models.values():
        with tempfile.TemporaryDirectory() as name:
            for path, content in entry["files"].items():
                (Path(name) / path).write_text(json.dumps(content), encoding="utf-8")
            entry["vllm"] = ask(Path(name))
    lines = (f"{json.dumps(name)}: {json.dumps(entry)}" for name, entry in models.items())
    ANSWERS.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
