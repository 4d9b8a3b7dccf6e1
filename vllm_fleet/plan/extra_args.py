"""Flags in a server's ``extra_args``, whichever way they are spelt there: --kv-cache-dtype is kv_cache_dtype, too."""

from __future__ import annotations

from typing import Any

from vllm_fleet.plan.declaration import ModelServer


def flag(server: ModelServer, name: str, default: Any = None) -> Any:
    """Return the value of a flag, ``default`` where it is not given."""
    return next((value for key, value in server.extra_args.items() if flag_name(key) == name), default)


def without(server: ModelServer, *names: str) -> dict[str, Any]:
    """Return ``extra_args`` without some flags."""
    return {key: value for key, value in server.extra_args.items() if flag_name(key) not in names}


def flag_name(key: str) -> str:
    """Return the name under which the catalogue of flags has a key."""
    return key.removeprefix("--").replace("_", "-")
