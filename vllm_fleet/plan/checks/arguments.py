"""What checks of a server against its model share: overrides of its config.json, and problems with a remedy."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from vllm_fleet.plan.declaration import ModelServer
from vllm_fleet.plan.extra_args import flag
from vllm_fleet.plan.problems import Change, Problem

CODE = "plan-model"


def overrides(server: ModelServer) -> Mapping[str, Any]:
    """Return what ``--hf-overrides`` changes of config.json; nothing where that is no JSON."""
    value = flag(server, "hf-overrides")
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return {}
    return value if isinstance(value, Mapping) else {}


def problem(server: ModelServer, message: str, *changes: tuple[str, Any], severity: str = "error") -> Problem:
    """Return a problem with one remedy, the given changes together."""
    remedies = (tuple(Change(server.name, key, value) for key, value in changes),) if changes else ()
    return Problem(f"server {server.name}", message, CODE, severity, remedies)
