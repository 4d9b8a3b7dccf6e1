"""Filters over vllm_fleet.clients: the snippets for a gateway's clients."""

from __future__ import annotations

import os.path
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleFilterError

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from vllm_fleet.clients.snippets import CLIENTS, snippets  # noqa: E402 - found by the path set above
from vllm_fleet.errors import FleetError  # noqa: E402


def client_snippets(
    plan: Mapping[str, Any], key: str, ca_file: str | None = None, inventory: str | None = None
) -> list[dict[str, Any]]:
    """Return ``{"name", "text"}`` of every file there can be; the text is None for clients with nothing to talk to."""
    try:
        # Roles name files by their own place: .../roles/gateway/../../
        written = snippets(plan, key, ca_file and os.path.normpath(ca_file), inventory)
    except FleetError as error:
        raise AnsibleFilterError(str(error)) from error
    return [{"name": name, "text": written.get(name)} for name in CLIENTS]


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by the names templates use."""
        return {"client_snippets": client_snippets}
