"""What an inventory declares of its gateway: the list ``gateway_keys``, checked and typed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any

from vllm_fleet.gateway.result import Key
from vllm_fleet.plan.problems import Problem, did_you_mean
from vllm_fleet.plan.sentences import listed

DEFAULT_CONCURRENCY = 64  # Dify fills a knowledge base with 40 requests at a time and does not retry a refused one
SHORTEST_SECRET = 16
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,40}[a-z0-9])?")
# What fits into a header, and is one word to HAProxy.
_SECRET = re.compile(r"[\x21-\x7e]+")
_FIELDS = ("name", "key", "requests_per_minute", "concurrent_requests", "servers")


def parse_keys(raw: object, servers: Collection[str]) -> tuple[tuple[Key, ...], dict[str, list[str]], list[Problem]]:
    """Read the keys; return those that could be read, their secrets as far as declared, and every problem found.

    Args:
        raw: the value of ``gateway_keys``: a list of mappings.
        servers: the names of the servers there are.
    """
    if not isinstance(raw, list) or not raw:
        return (), {}, [_problem("", f"expected a list of keys such as [{{name: default}}], found {_shown(raw)}")]
    keys, secrets, problems = list[Key](), dict[str, list[str]](), list[Problem]()
    for position, entry in enumerate(raw, start=1):
        where = f"key {position}"
        if not isinstance(entry, Mapping):
            problems.append(_problem(where, f"expected a mapping with a name, found {_shown(entry)}"))
            continue
        if not _named(entry):
            problems.append(_problem(where, f"name: expected a-z, 0-9 and -, found {_shown(entry.get('name'))}"))
            continue
        name, where = entry["name"], f"key {entry['name']}"
        wrong = [
            f"unknown field {field!r}{did_you_mean(str(field), _FIELDS)}" for field in entry if field not in _FIELDS
        ]
        wrong += _secret_mistakes(entry.get("key"))
        rate, concurrent = entry.get("requests_per_minute", 0), entry.get("concurrent_requests", DEFAULT_CONCURRENCY)
        if not _whole(rate, 0):
            wrong.append(f"requests_per_minute: expected a whole number, 0 for any, found {_shown(rate)}")
        if not _whole(concurrent, 1):
            wrong.append(f"concurrent_requests: expected a whole number from 1 on, found {_shown(concurrent)}")
        chosen = entry.get("servers")
        if chosen is not None and (not isinstance(chosen, list) or not chosen):
            wrong.append(f"servers: expected a list of names, or nothing for all, found {_shown(chosen)}")
        elif chosen:
            absent = [str(one) for one in chosen if one not in servers]
            if absent:
                wrong.append(f"servers: there is no {listed(absent, 'or')}; there are {listed(sorted(servers))}")
        problems += [_problem(where, message) for message in wrong]
        if not wrong:
            keys.append(Key(name, rate, concurrent, tuple(chosen) if chosen else None))
            if entry.get("key"):
                secrets[name] = [entry["key"]] if isinstance(entry["key"], str) else list(entry["key"])
    for name, count in Counter(key.name for key in keys).items():
        if count > 1:
            problems.append(_problem(f"key {name}", f"is declared {count} times"))
    owners = Counter(secret for one in secrets.values() for secret in set(one))
    if any(count > 1 for count in owners.values()):
        twice = sorted(name for name, one in secrets.items() if any(owners[secret] > 1 for secret in one))
        problems.append(_problem(f"keys {listed(twice)}", "have the same secret; each needs one of its own"))
    return tuple(keys), secrets, problems


def keys_to_make(raw: object) -> list[str]:
    """Return the names of the keys that declare no secret, so that one is to be made."""
    entries = raw if isinstance(raw, list) else []
    return [one["name"] for one in entries if isinstance(one, Mapping) and _named(one) and not one.get("key")]


def _named(entry: Mapping[str, Any]) -> bool:
    return isinstance(entry.get("name"), str) and _NAME.fullmatch(entry["name"]) is not None


def _secret_mistakes(declared: object) -> list[str]:
    """Return mistakes in a secret, which none of them shows."""
    if not declared:
        return []
    secrets: list[Any] = declared if isinstance(declared, list) else [declared]
    if not all(isinstance(secret, str) for secret in secrets):
        return ["key: expected text, or a list of texts that are all accepted"]
    if not all(_SECRET.fullmatch(secret) for secret in secrets):
        return ["key: holds blanks or other characters that do not fit into a header; allowed are printable ASCII ones"]
    if any(len(secret) < SHORTEST_SECRET for secret in secrets):
        return [
            f"key: has fewer than {SHORTEST_SECRET} characters, so it may be guessed; leave it out to have one made"
        ]
    return []


def _whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _problem(where: str, message: str) -> Problem:
    return Problem(f"gateway_keys, {where}" if where else "gateway_keys", message, code="gateway")


def _shown(value: object) -> str:
    """Return a value for a message; a mapping may hold a secret."""
    return type(value).__name__ if isinstance(value, Mapping | list) else repr(value)
