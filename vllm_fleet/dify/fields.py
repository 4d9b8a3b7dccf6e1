"""Dify's form for a model of OpenAI-API-compatible: how its fields are called on the screen, in English and Chinese."""

from __future__ import annotations

LABELS: dict[str, tuple[str, str]] = {
    "model": ("Model Name", "模型名称"),
    "model_type": ("Model Type", "模型类型"),
    "api_key": ("API Key", "API Key"),
    "endpoint_url": ("API Base URL", "API Base URL"),
    "endpoint_model_name": ("model name for API endpoint", "API endpoint中的模型名称"),
    "mode": ("Completion mode", "对话类型"),
    "context_size": ("Model context size", "模型上下文长度"),
    "max_tokens_to_sample": ("Upper bound for max tokens", "最大 token 上限"),
    "agent_thought_support": ("Thinking Mode Support", "思考模式支持"),
    "compatibility_mode": ("Compatibility mode", "兼容模式"),
    "token_param_name": ("Token parameter name", "token 参数名"),
    "stream_include_usage": ("Include Usage in Stream", "流式中包含用量"),
    "function_calling_type": ("Function Call Type", "函数调用类型"),
    "stream_function_calling": ("Stream function calling", "流式函数调用"),
    "vision_support": ("Vision Support", "视觉支持"),
    "structured_output_support": ("Structured Output", "结构化输出"),
    "stream_mode_auth": ("Stream mode auth", "流模式授权"),
    "stream_mode_delimiter": ("Delimiter for streaming results", "流模式返回结果的分隔符"),
    "max_chunks": ("Model max chunks per batch", "模型每批的最大分块数"),
    "encoding_format": ("Embedding encoding format", "Embedding encoding format"),
}
TYPES = {"llm": "LLM", "text-embedding": "Text Embedding", "rerank": "Rerank"}
# What a list on the screen shows for a value.
CHOICES: dict[tuple[str, str], tuple[str, str]] = {
    ("mode", "chat"): ("Chat", "对话"),
    ("agent_thought_support", "not_supported"): ("Only Non-Thinking Mode", "仅支持非思考模式"),
    ("compatibility_mode", "strict"): ("OpenAI compatible", "严格（OpenAI 兼容）"),
    ("token_param_name", "auto"): ("Auto (detect by model)", "自动（按模型判断）"),
    ("stream_include_usage", "enabled"): ("Enabled", "启用"),
    ("function_calling_type", "tool_call"): ("Tool Call", "工具调用"),
    ("function_calling_type", "no_call"): ("Not Support", "不支持"),
    ("stream_function_calling", "supported"): ("Support", "支持"),
    ("stream_function_calling", "not_supported"): ("Not Support", "不支持"),
    ("vision_support", "no_support"): ("Not Support", "不支持"),
    ("structured_output_support", "not_supported"): ("Not Support", "不支持"),
    ("stream_mode_auth", "not_use"): ("Not Use", "不使用"),
    ("encoding_format", "not_set"): ("Not set", "Not set"),
}
NOTES = {
    "model": "cached vectors and every app hang on it: keep it for good",
    "context_size": "in tokens, the server's `max_model_len`",
    "max_tokens_to_sample": "in tokens, half of the context, so that the other half is left to the question",
    "max_chunks": "whatever stands there, texts are sent one by one",
    "stream_mode_delimiter": "four characters: backslash, n, backslash, n",
    "structured_output_support": "Support works as well: vLLM binds answers to a JSON schema",
    "agent_thought_support": "another choice only for a model that thinks before it answers",
    "vision_support": "Support only for a model that reads images",
    "stream_include_usage": "else Dify counts tokens itself, which is no more than a guess",
    "function_calling_type": "agents need Tool Call",
}
