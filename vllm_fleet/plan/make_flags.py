"""Write ``vllm_flags.json`` from the parser of the vLLM that runs this file. Run by scripts/make-vllm-flags."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
from pathlib import Path
from typing import Any


def describe(action: argparse.Action) -> dict[str, Any]:
    """Describe one argparse action in the form `vllm_fleet.plan.flags.Flag` reads."""
    negatable = any(option.startswith("--no-") for option in action.option_strings)
    if action.nargs == 0:
        return {"takes": "switch", "negatable": negatable}
    several = action.nargs in ("*", "+") or isinstance(action.nargs, int) or isinstance(action, argparse._AppendAction)
    entry: dict[str, Any] = {"takes": "list" if several else "value"}
    if action.type in (int, float):
        entry["type"] = "int" if action.type is int else "float"
    if action.choices is not None:
        entry["choices"] = [str(choice) for choice in action.choices]
    return entry


def registered() -> dict[str, list[str]]:
    """Return the values vLLM takes from registries, which its parser leaves open for plugins."""
    from vllm.model_executor.layers.quantization import QUANTIZATION_METHODS
    from vllm.reasoning import ReasoningParserManager
    from vllm.tool_parsers import ToolParserManager

    return {
        "tool-call-parser": ToolParserManager.list_registered(),
        "reasoning-parser": ReasoningParserManager.list_registered(),
        "quantization": list(QUANTIZATION_METHODS),
    }


def main() -> None:
    """Read vLLM's own parser and write the catalogue beside this file."""
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    parser = make_arg_parser(FlexibleArgumentParser())
    flags: dict[str, dict[str, Any]] = {}
    for action in parser._actions:
        if isinstance(action, argparse._HelpAction):
            continue
        entry = describe(action)
        for option in action.option_strings:
            if option.startswith("--") and not (entry.get("negatable") and option.startswith("--no-")):
                flags[option.removeprefix("--").replace("_", "-")] = entry
    for flag, names in registered().items():
        flags[flag] = {"takes": "value", "choices": sorted(names)}
    version = importlib.metadata.version("vllm").split("+")[0]
    text = json.dumps({"version": version, "flags": dict(sorted(flags.items()))}, indent=1, ensure_ascii=False)
    Path(__file__).with_name("vllm_flags.json").write_text(text + "\n", encoding="utf-8")
    print(f"vllm {version}: {len(flags)} flags")


if __name__ == "__main__":
    main()
