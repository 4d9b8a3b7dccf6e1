"""Which tool call parsers read what a model writes, told by a marker in its chat template.

The markers are those the parsers look for (vLLM's tool_parsers/ and parser/).
"""

from __future__ import annotations

# The first marker found decides, so what is more particular stands first: qwen3_coder's and GLM's templates hold
# hermes's <tool_call> as well.
MARKERS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("[TOOL_CALLS]", ("mistral",)),
    ("<longcat_tool_call>", ("longcat",)),
    ("<seed:tool_call>", ("seed_oss",)),
    ("<minimax:tool_call>", ("minimax_m2", "minimax_m3")),
    ("<ifm|tool_calls>", ("k2_horizon",)),
    ("<start_function_call>", ("functiongemma",)),
    ("<dots_function_call>", ("dots",)),
    ("<function_call>", ("granite-20b-fc",)),
    ("<|tools_prefix|>", ("apertus",)),
    ("<|tool_calls_section_begin|>", ("kimi_k2",)),
    ("<|tool_call_start|>", ("lfm2",)),
    ("<|START_ACTION|>", ("cohere_command3", "cohere_command4")),
    ("<|action_start|>", ("internlm",)),
    ("<|python_start|>", ("llama4_pythonic", "llama4_json")),
    ("<|plamo:begin_tool_request", ("plamo3",)),
    ("｜DSML｜", ("deepseek_v32", "deepseek_v4", "deepseek_v41")),
    ("<｜tool▁calls▁begin｜>", ("deepseek_v3", "deepseek_v31")),
    ("<｜tool_calls_begin｜>", ("step3",)),
    ("<|channel|>commentary", ("openai",)),
    ("to=functions.", ("openai",)),
    ("<arg_key>", ("glm45", "glm47", "ling3", "poolside_v1")),
    ("<function=", ("qwen3_coder", "qwen3_xml", "step3p5", "mimo")),
    ("<tool_calls>", ("jamba", "hunyuan_a13b")),
    ("<tool_call>", ("hermes", "qwen3_json", "granite", "granite4", "xlam", "ernie45")),
    ("<|tool_call|>", ("granite", "phi4_mini_json")),
    ("<|python_tag|>", ("llama3_json",)),
    ('"parameters": dictionary of argument name', ("llama3_json",)),
)
# These read several forms, or one that leaves no mark in a template.
UNMARKED = ("hf", "pythonic", "olmo3", "xlam")


def fitting(chat_template: str) -> tuple[str, ...]:
    """Return the parsers for what a chat template teaches a model to write, the best first, or none."""
    return next((parsers for marker, parsers in MARKERS if marker in chat_template), ())


def mentions_tools(chat_template: str) -> bool:
    """Return whether a chat template hands tools to the model at all."""
    return "tools" in chat_template
