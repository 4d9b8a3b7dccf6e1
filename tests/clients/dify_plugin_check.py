"""Try models with the classes that Dify's plugin OpenAI-API-compatible is made of (PyPI's dify_plugin).

A program for a Python of its own, since importing dify_plugin replaces sockets and threads by gevent's. It reads from
standard input `{"models": [...], "api_key": "...", "ca_file": null, "base_url": null}`, the models as in a sheet of
vllm_fleet.dify, and prints `{"version": ..., "results": [{"model", "model_type", "check", "ok", "detail"}]}`.
A base URL, with /v1, takes the place of the models' own. Exit status 1 where something is not right.

Rerankers are left out: the class of PyPI stretches scores to 0..1, which the plugin since 0.0.35 does not.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Any

# First, since it patches sockets.
from dify_plugin import OAICompatEmbeddingModel, OAICompatLargeLanguageModel

from dify_plugin.entities.model.message import PromptMessageTool, UserPromptMessage  # isort: skip

Given = dict[str, Any]
TEXTS = ["What is the capital of France?", "法国的首都是哪里？"]
WEATHER = PromptMessageTool(
    name="get_current_weather",
    description="Get the current weather in a given city",
    parameters={
        "type": "object",
        "properties": {
            "city": {"type": "string", "description": "The city, e.g. Paris"},
            "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
        },
        "required": ["city", "unit"],
    },
)
WEATHER_QUESTION = "What is the weather in Paris right now, in celsius?"


class Chat(OAICompatLargeLanguageModel):
    """As in the plugin, which has streams count tokens. Else dify_plugin counts them, with a file of the internet."""

    def _invoke(
        self,
        model: str,
        credentials: Given,
        prompt_messages: list[Any],
        model_parameters: Given,
        tools: list[Any] | None = None,
        stop: list[str] | None = None,
        stream: bool = True,
        user: str | None = None,
    ) -> Any:
        if stream and credentials.get("stream_include_usage") == "enabled":
            model_parameters = model_parameters | {"stream_options": {"include_usage": True}}
        return super()._invoke(model, credentials, prompt_messages, model_parameters, tools, stop, stream, user)


class Embedding(OAICompatEmbeddingModel):
    """As in the plugin, which cuts nothing and so counts nothing before it sends."""

    def _get_num_tokens_by_gpt2(self, text: str) -> int:
        return 0


def chat_validates(model: str, credentials: Given) -> str:
    Chat([]).validate_credentials(model, credentials)
    return ""


def chat_validates_streaming(model: str, credentials: Given) -> str:
    return chat_validates(model, {**credentials, "stream_mode_auth": "use"})


def chat_answers(model: str, credentials: Given) -> str:
    chunks = ask(model, credentials, "What is the capital of France? Answer in one short sentence.", stream=False)
    text = "".join(str(chunk.delta.message.content) for chunk in chunks)
    assert text.strip(), "an empty answer"
    return text


def chat_streams(model: str, credentials: Given) -> str:
    chunks = ask(model, credentials, "What is the capital of France? Answer in one short sentence.", stream=True)
    texts = [str(chunk.delta.message.content) for chunk in chunks if chunk.delta.message.content]
    last = chunks[-1].delta
    assert last.finish_reason != "Non-JSON encountered.", "a stream that Dify cannot read"
    assert len(texts) > 1, f"no stream but {texts}"
    assert last.usage is not None, "the stream does not count tokens"
    assert last.usage.completion_tokens > 0, "the stream does not count tokens"
    return "".join(texts)


def calls_tool(model: str, credentials: Given) -> str:
    return called(ask(model, credentials, WEATHER_QUESTION, stream=False, tools=[WEATHER]))


def streams_tool_call(model: str, credentials: Given) -> str:
    return called(ask(model, credentials, WEATHER_QUESTION, stream=True, tools=[WEATHER]))


def embedding_validates(model: str, credentials: Given) -> str:
    Embedding([]).validate_credentials(model, credentials)
    return ""


def embeds(model: str, credentials: Given) -> str:
    found = Embedding([]).invoke(model, credentials, TEXTS)
    lengths = {len(one) for one in found.embeddings}
    assert len(found.embeddings) == len(TEXTS), f"{len(found.embeddings)} vectors for {len(TEXTS)} texts"
    assert len(lengths) == 1, f"vectors of several dimensions: {lengths}"
    assert found.usage.total_tokens > 0, "tokens are not counted"
    return f"{len(found.embeddings)} vectors of dimension {lengths.pop()}"


def ask(model: str, credentials: Given, question: str, stream: bool, tools: list[Any] | None = None) -> list[Any]:
    """The chunks of an answer, with all parameters that Dify can send."""
    parameters = {"temperature": 0, "top_p": 1, "frequency_penalty": 0, "presence_penalty": 0, "max_tokens": 128}
    messages = [UserPromptMessage(content=question)]
    return list(Chat([]).invoke(model, credentials, messages, parameters, tools, None, stream, user="vllm-fleet"))


def called(chunks: list[Any]) -> str:
    calls = [call.function for chunk in chunks for call in chunk.delta.message.tool_calls]
    assert len(calls) == 1, f"{len(calls)} calls: {calls}"
    arguments = json.loads(calls[0].arguments)
    assert (calls[0].name, arguments) == ("get_current_weather", {"city": "Paris", "unit": "celsius"}), calls
    return f"{calls[0].name} with {calls[0].arguments}"


def checks(entry: Given) -> list[Callable[[str, Given], str]]:
    """What a model is tried with."""
    if entry["model_type"] == "llm":
        tools = entry["credentials"].get("function_calling_type") == "tool_call"
        plain = [chat_validates, chat_validates_streaming, chat_answers, chat_streams]
        return [*plain, *([calls_tool, streams_tool_call] if tools else [])]
    return [embedding_validates, embeds] if entry["model_type"] == "text-embedding" else []


def results(given: Given) -> Iterator[Given]:
    """One for each check of each model; the API key is in none."""
    key = given.get("api_key") or ""
    for entry in given["models"]:
        credentials = entry["credentials"] | {"api_key": key}
        if given.get("base_url"):
            credentials["endpoint_url"] = given["base_url"]
        for check in checks(entry):
            try:
                ok, detail = True, check(entry["model"], dict(credentials))
            except Exception as error:  # whatever it is, it is the finding
                ok, detail = False, " <- ".join(f"{type(one).__name__}: {one}" for one in chain(error))
            shown = detail.replace(key, "[API key]") if key else detail
            names = {"model": entry["model"], "model_type": entry["model_type"], "check": check.__name__}
            yield {**names, "ok": ok, "detail": shown}


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and those that it came from; dify_plugin hides some behind others."""
    while error:
        yield error
        error = error.__cause__ or error.__context__


def main() -> int:
    """Read, try, print."""
    given = json.load(sys.stdin)
    os.environ["NO_PROXY"] = "*"
    if given.get("ca_file"):
        os.environ["REQUESTS_CA_BUNDLE"] = given["ca_file"]
    found = list(results(given))
    print(json.dumps({"version": version("dify_plugin"), "results": found}, ensure_ascii=False, indent=2))
    return 0 if found and all(one["ok"] for one in found) else 1


if __name__ == "__main__":
    sys.exit(main())
