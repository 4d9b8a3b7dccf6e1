"""Write ``vllm_quantization.json`` from the vLLM that runs this file. Run by scripts/make-vllm-quantization."""

from __future__ import annotations

import importlib.metadata
import inspect
import json
from pathlib import Path
from typing import Any

# What vLLM takes as the server's dtype; other activation dtypes are the kernels' own.
DTYPES = {"torch.float16": "float16", "torch.bfloat16": "bfloat16", "torch.float32": "float32"}


def main() -> None:
    """Ask the class of every quantization method what it needs, and write the answers beside this file."""
    from vllm.model_executor.layers import quantization

    methods: dict[str, dict[str, Any]] = {}
    for name in sorted(quantization.QUANTIZATION_METHODS):
        config = quantization.get_quantization_config(name)
        # In some classes this is a method of an instance, which only a checkpoint can make; none looks at it.
        ask = config.get_supported_act_dtypes
        dtypes = [str(dtype) for dtype in (ask() if inspect.ismethod(ask) else ask(None))]
        methods[name] = {
            "capability": config.get_min_capability(),
            "dtypes": sorted(DTYPES[dtype] for dtype in dtypes if dtype in DTYPES),
            "deprecated": name in quantization.DEPRECATED_QUANTIZATION_METHODS,
        }
    version = importlib.metadata.version("vllm").split("+")[0]
    rows = ",\n".join(f"  {json.dumps(name)}: {json.dumps(method)}" for name, method in methods.items())
    text = f'{{\n "version": {json.dumps(version)},\n "methods": {{\n{rows}\n }}\n}}\n'
    Path(__file__).with_name("vllm_quantization.json").write_text(text, encoding="utf-8")
    print(f"vllm {version}: {len(methods)} quantization methods")


if __name__ == "__main__":
    main()
