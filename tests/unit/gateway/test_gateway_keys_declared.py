"""Keys as an inventory declares them: every mistake is named, and none shows a secret."""

from __future__ import annotations

from typing import Any

import pytest

from vllm_fleet.gateway.declaration import DEFAULT_CONCURRENCY, keys_to_make, parse_keys

SERVERS = ("llm", "embedding", "rerank")
SECRET = "sk-secret-0123456789"


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (None, "expected a list of keys"),
        ({}, "expected a list of keys"),
        ([], "expected a list of keys"),
        (["default"], "key 1: expected a mapping with a name, found 'default'"),
        ([{"key": SECRET}], "key 1: name: expected a-z, 0-9 and -, found None"),
        ([{"name": "Big Key"}], "key 1: name: expected a-z, 0-9 and -, found 'Big Key'"),
        ([{"name": "a", "rate": 3}], "key a: unknown field 'rate'"),
        ([{"name": "a", "server": ["llm"]}], "key a: unknown field 'server'; did you mean servers?"),
        ([{"name": "a", "requests_per_minute": "10"}], "requests_per_minute: expected a whole number, 0 for any"),
        ([{"name": "a", "requests_per_minute": True}], "requests_per_minute: expected a whole number"),
        ([{"name": "a", "concurrent_requests": 0}], "concurrent_requests: expected a whole number from 1 on, found 0"),
        ([{"name": "a", "servers": []}], "servers: expected a list of names, or nothing for all"),
        ([{"name": "a", "servers": ["lm", "llm"]}], "servers: there is no lm; there are embedding, llm and rerank"),
        ([{"name": "a", "key": 5}], "key: expected text"),
        ([{"name": "a", "key": "two words 0123456789"}], "key: holds blanks"),
        ([{"name": "a", "key": "schlüssel-0123456789"}], "key: holds blanks or other characters"),
        ([{"name": "a", "key": "short"}], "key: has fewer than 16 characters"),
        ([{"name": "a"}, {"name": "a"}], "key a: is declared 2 times"),
        ([{"name": "a", "key": SECRET}, {"name": "b", "key": [SECRET]}], "keys a and b: have the same secret"),
    ],
)
def test_a_mistake_is_named(raw: object, said: str) -> None:
    _, _, problems = parse_keys(raw, SERVERS)
    text = "\n".join(map(str, problems))
    assert said in text
    assert "secret-0123" not in text


def test_all_mistakes_are_named_at_once() -> None:
    raw = [{"name": "a", "key": "short", "servers": ["x"], "requests_per_minute": -1}, {"name": "B"}]
    assert len(parse_keys(raw, SERVERS)[2]) == 4


def test_what_is_left_out_has_safe_values() -> None:
    (key,), secrets, problems = parse_keys([{"name": "default"}], SERVERS)
    assert (key.requests_per_minute, key.concurrent_requests, key.servers) == (0, DEFAULT_CONCURRENCY, None)
    assert DEFAULT_CONCURRENCY >= 40  # what Dify has under way when it fills a knowledge base
    assert (secrets, problems) == ({}, [])


def test_only_keys_without_a_secret_are_made() -> None:
    raw: list[Any] = [{"name": "a"}, {"name": "b", "key": SECRET}, {"name": "c", "key": ""}, "d", {"name": "E"}]
    assert keys_to_make(raw) == ["a", "c"]
    assert keys_to_make(None) == []
