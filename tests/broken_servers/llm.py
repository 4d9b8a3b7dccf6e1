"""Language models that are wrong in one way."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tests.broken_servers.broken import Broken, on_choice, on_stream, rewriting, under_load
from tests.broken_servers.stub import QUESTIONS, Answer, Fault, Json, Says, error

_STOPPING = tuple(f"answers_{one.id}" for one in QUESTIONS.chat if one.finish_reasons == ("stop",) and not one.json)
_JSON = tuple(one.contains_any[0] for one in QUESTIONS.chat if one.json)


def _instead_of(words: str, said: str) -> Says:
    """A model that says something else where the right answer holds these words."""
    return lambda request, text: said if words in text else text


def _leak(request: Json, text: str) -> str:
    return f"{text}<|im_end|>" if _is_sentence(text) else text


def _is_sentence(text: str) -> bool:
    return text.startswith("It is ")


def _chatter_in_json(request: Json, text: str) -> str:
    return f"Sure! {text}" if text in _JSON else text


def _ignore_schema(request: Json, text: str) -> str:
    return "pong" if text == '"vllm-fleet"' else text


def _to_length(choice: Json) -> None:
    choice["finish_reason"] = "length"


def _ends_by_itself(choice: Json) -> Any:
    return choice["finish_reason"] == "stop" and _is_sentence(choice["message"].get("content") or "")


def _is_call(choice: Json) -> Any:
    return choice["message"].get("tool_calls")


def _as_text(choice: Json) -> None:
    call = choice["message"]["tool_calls"][0]["function"]
    choice["message"] = {"content": f"<tool_call>\n{json.dumps(call)}\n</tool_call>", "tool_calls": []}
    choice["finish_reason"] = "stop"


def _to_berlin(choice: Json) -> None:
    for call in choice["message"]["tool_calls"]:
        call["function"]["arguments"] = call["function"]["arguments"].replace("Paris", "Berlin")


def _cut_arguments(choice: Json) -> None:
    for call in choice["message"]["tool_calls"]:
        call["function"]["arguments"] = call["function"]["arguments"][:-3]


def _to_stop(choice: Json) -> None:
    choice["finish_reason"] = "stop"


def _events(change: Callable[[Json], bool]) -> Callable[[list[str]], list[str]]:
    """Keep the events that `change` says yes to; it may change them."""

    def changed(events: list[str]) -> list[str]:
        kept = []
        for event in events[:-1]:
            chunk = json.loads(event)
            if change(chunk):
                kept.append(json.dumps(chunk))
        return [*kept, events[-1]]

    return changed


def _parts(chunk: Json) -> list[Json]:
    return [part for choice in chunk["choices"] for part in choice["delta"].get("tool_calls") or ()]


def _first_call_only(chunk: Json) -> bool:
    return all(part["index"] == 0 for part in _parts(chunk))


def _lose_braces(chunk: Json) -> bool:
    """As a parser that counts braces without looking whether they stand in a string."""
    for part in _parts(chunk):
        if part["function"].get("arguments") == "{":
            part["function"]["arguments"] = ""
    return True


def _without_reason(chunk: Json) -> bool:
    for choice in chunk["choices"]:
        choice["finish_reason"] = None
    return True


def _lose_emoji(chunk: Json) -> bool:
    """As a proxy that takes a character of several bytes apart."""
    for choice in chunk["choices"]:
        if (text := choice["delta"].get("content")) and ord(text) > 0xFFFF:
            choice["delta"]["content"] = "\N{REPLACEMENT CHARACTER}"
    return True


def _error_event(events: list[str]) -> list[str]:
    return [*events[:4], json.dumps({"error": {"message": "EngineCore died", "code": 500}}), events[-1]]


def _first_stream_slow() -> Fault:
    """Each event comes soon enough, and the whole too late."""
    number = itertools.count()

    def fault(path: str, request: Json, answer: Answer) -> Answer:
        return replace(answer, pause=0.25) if answer.events and next(number) == 0 else answer

    return fault


def _never_the_same() -> Fault:
    """A server that ignores the temperature."""
    number = itertools.count()

    def fault(path: str, request: Json, answer: Answer) -> Answer:
        return on_choice(lambda choice: choice["message"].update(content=f"It is Paris ({next(number)})"), _is_paris)(
            path, request, answer
        )

    return fault


def _is_paris(choice: Json) -> Any:
    return "It is Paris" in str(choice["message"].get("content"))


def _ignore_max_tokens(request: Json, body: Json) -> None:
    if request.get("max_tokens") == 3:
        body["usage"].update(completion_tokens=40, total_tokens=body["usage"]["prompt_tokens"] + 40)


def _without_usage(request: Json, body: Json) -> None:
    del body["usage"]


def _miscount(request: Json, body: Json) -> None:
    body["usage"]["total_tokens"] += 1


def _engine_dies_of_schema() -> Fault:
    """The malformed schema is refused, and whatever comes next meets a dead engine."""
    dead = [False]

    def fault(path: str, request: Json, answer: Answer) -> Answer:
        was_dead, dead[0] = dead[0], "JSON schema" in str(answer.body)
        return error(500, "EngineCore died") if was_dead else answer

    return fault


def _mix_up(answer: Answer) -> Answer:
    text = json.dumps(answer.body)
    return replace(answer, body=json.loads(text.replace("It is ", "It was ").replace("Paris", "Oslo")))


BROKEN = [
    Broken(
        id="wrong_model",
        wrong="another model is behind the name: its sentences are wrong",
        kind="llm",
        fails=("answers_*",),
        message="another model is behind the name",
        says=lambda request, text: "It is Berlin." if _is_sentence(text) or text in _JSON else text,
    ),
    Broken(
        id="empty_answers",
        wrong="answers are empty, though they are counted and end with stop",
        kind="llm",
        fails=("answers_*",),
        message="an empty text",
        says=lambda request, text: "" if _is_sentence(text) or text in _JSON else text,
    ),
    Broken(
        id="end_token_lost",
        wrong="the end ids are lost with generation_config.json: answers go on until max_tokens",
        kind="llm",
        fails=_STOPPING,
        message="generation_config.json",
        fault=on_choice(_to_length, _ends_by_itself),
    ),
    Broken(
        id="special_tokens_shown",
        wrong="the chat template is another model's: special tokens stand in the text",
        kind="llm",
        fails=tuple(f"answers_{one.id}" for one in QUESTIONS.chat if not one.json),
        message="<|im_end|>",
        says=_leak,
    ),
    Broken(
        id="no_chinese",
        wrong="the tokenizer does not know Chinese",
        kind="llm",
        fails=("answers_capital_of_france_chinese",),
        message="巴黎",
        says=_instead_of("巴黎", "It is 口口."),
    ),
    Broken(
        id="system_prompt_dropped",
        wrong="the chat template drops the system prompt",
        kind="llm",
        fails=("answers_system_prompt",),
        message="Marvin",
        says=_instead_of("Marvin", "It is Qwen."),
    ),
    Broken(
        id="earlier_turns_dropped",
        wrong="earlier turns of a conversation are dropped",
        kind="llm",
        fails=("answers_earlier_turn",),
        message="Lisbon",
        says=_instead_of("Lisbon", "It is unknown to me."),
    ),
    Broken(
        id="emoji_lost",
        wrong="emoji become question marks",
        kind="llm",
        fails=("answers_unicode_echo",),
        message="🚀",
        says=lambda request, text: text.replace("🚀", "?"),
    ),
    Broken(
        id="overflow_on_long_prompts",
        wrong="float16 overflows on long prompts only",
        kind="llm",
        fails=("answers_long_prompt",),
        message="!!!!!!",
        says=_instead_of("Rome", "!!!!!!!!!!!!!!!!"),
    ),
    Broken(
        id="schema_ignored",
        wrong="response_format is dropped on the way",
        kind="llm",
        fails=("schema_binds",),
        message="drops `response_format`",
        says=_ignore_schema,
    ),
    Broken(
        id="chatter_around_json",
        wrong="the JSON that was asked for stands in a sentence",
        kind="llm",
        fails=("answers_capital_as_json",),
        message="Sure!",
        says=_chatter_in_json,
    ),
    Broken(
        id="engine_dies_of_schema",
        wrong="a malformed schema ends the engine",
        kind="llm",
        fails=("bad_schema_refused",),
        message="one bad request ends the engine",
        fault=_engine_dies_of_schema(),
    ),
    Broken(
        id="tool_call_as_text",
        wrong="no tool-call parser: calls come as text",
        kind="llm",
        fails=("calls_tool_*",),
        message="no tool call but the text",
        fault=on_choice(_as_text, _is_call),
    ),
    Broken(
        id="tool_arguments_wrong",
        wrong="tools are called with wrong arguments",
        kind="llm",
        fails=("calls_tool_weather_tool_call", "calls_tool_two_tool_calls"),
        message="Berlin",
        fault=on_choice(_to_berlin, _is_call),
    ),
    Broken(
        id="tool_arguments_cut",
        wrong="tool arguments are not JSON",
        kind="llm",
        fails=("calls_tool_*",),
        message="that are JSON",
        fault=on_choice(_cut_arguments, _is_call),
    ),
    Broken(
        id="tool_call_ends_with_stop",
        wrong="tool calls end with finish_reason stop, so that agents do not run them",
        kind="llm",
        fails=("calls_tool_*",),
        message="finish_reason tool_calls | stop",
        fault=on_choice(_to_stop, _is_call),
    ),
    Broken(
        id="second_streamed_call_lost",
        wrong="of two streamed tool calls only the first arrives",
        kind="llm",
        fails=("streams_tool_call_two_tool_calls",),
        message="the parser lost or joined calls",
        fault=on_stream(_events(_first_call_only), tools=True),
    ),
    Broken(
        id="streamed_braces_lost",
        wrong="braces of streamed tool arguments are lost",
        kind="llm",
        fails=("streams_tool_call_*",),
        message="that are JSON",
        fault=on_stream(_events(_lose_braces), tools=True),
    ),
    Broken(
        id="usage_missing",
        wrong="answers do not count tokens",
        kind="llm",
        fails=("usage",),
        message="usage with prompt_tokens",
        fault=rewriting(_without_usage, "choices"),
    ),
    Broken(
        id="usage_inconsistent",
        wrong="counted tokens do not add up",
        kind="llm",
        fails=("usage",),
        message="add up",
        fault=rewriting(_miscount, "choices"),
    ),
    Broken(
        id="max_tokens_ignored",
        wrong="max_tokens is ignored",
        kind="llm",
        fails=("stops_at_max_tokens",),
        message="length after 40 tokens",
        fault=rewriting(_ignore_max_tokens, "choices"),
    ),
    Broken(
        id="temperature_ignored",
        wrong="the temperature is ignored",
        kind="llm",
        fails=("repeats_itself", "stream_equals_blocking"),
        message="drops `temperature`",
        fault=_never_the_same(),
    ),
    Broken(
        id="stream_without_done",
        wrong="streams end without [DONE]",
        kind="llm",
        fails=("stream_completes",),
        message="a stream that ends with [DONE]",
        fault=on_stream(lambda events: events[:-1]),
    ),
    Broken(
        id="stream_without_usage",
        wrong="streams do not count tokens",
        kind="llm",
        fails=("stream_completes",),
        message="usage",
        fault=on_stream(_events(lambda chunk: not chunk.get("usage"))),
    ),
    Broken(
        id="stream_cut_but_clean",
        wrong="the engine died in the middle of a stream, which ends with [DONE] all the same",
        kind="llm",
        fails=("stream_completes",),
        message="finish_reason",
        fault=on_stream(_events(_without_reason)),
    ),
    Broken(
        id="stream_too_slow",
        wrong="a stream takes minutes, though it never stands still",
        kind="llm",
        fails=("stream_completes",),
        message="no answer within 2 s",
        fault=_first_stream_slow(),
        timeout=2,
    ),
    Broken(
        id="stream_with_error",
        wrong="an error comes in the middle of a stream",
        kind="llm",
        fails=("stream_completes", "stream_equals_blocking", "chats_at_once"),
        message="EngineCore died",
        fault=on_stream(_error_event),
    ),
    Broken(
        id="stream_loses_text",
        wrong="streams lose a piece of text",
        kind="llm",
        fails=("stream_equals_blocking",),
        message="the streamed text",
        fault=on_stream(lambda events: events[:2] + events[3:]),
    ),
    Broken(
        id="stream_garbles_emoji",
        wrong="characters of several bytes are taken apart in streams",
        kind="llm",
        fails=("stream_equals_blocking",),
        message="the streamed text",
        fault=on_stream(_events(_lose_emoji)),
    ),
    Broken(
        id="answers_mixed_up",
        wrong="answers are mixed up when several are under way",
        kind="llm",
        fails=("chats_at_once",),
        message="mixed up between requests",
        fault=under_load(2, _mix_up),
    ),
]
