"""Filters over vllm_fleet.dify: the sheet "what to enter in Dify"."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleFilterError

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from vllm_fleet.dify.sheet import as_markdown, make_sheet  # noqa: E402 - found by the path set above
from vllm_fleet.errors import FleetError  # noqa: E402


def dify_sheet(
    plan: Mapping[str, Any],
    key_name: str = "",
    ca_file: str | None = None,
    inventory: str = "",
    secret: str | None = None,
) -> dict[str, Any]:
    """Return the sheet of a gateway's plan as data; the arguments are those of `make_sheet`."""
    try:
        return make_sheet(plan, key_name, ca_file, inventory, secret)
    except FleetError as error:
        raise AnsibleFilterError(str(error)) from error


def dify_sheet_json(sheet: Mapping[str, Any]) -> str:
    """Return a sheet as the text of a JSON file."""
    return json.dumps(sheet, indent=2, ensure_ascii=False) + "\n"


class FilterModule:
    """The filters of this project."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by the names templates use."""
        return {"dify_sheet": dify_sheet, "dify_sheet_json": dify_sheet_json, "dify_sheet_markdown": as_markdown}
