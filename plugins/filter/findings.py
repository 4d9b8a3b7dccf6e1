"""Findings that roles write as data: each with a condition beside what it says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def findings_that_hold(conditional: Iterable[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Return code, severity and message of those findings whose ``when`` is true."""
    return [{key: str(each[key]) for key in ("code", "severity", "message")} for each in conditional if each["when"]]


class FilterModule:
    """The filters of this project."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by the names templates use."""
        return {"findings_that_hold": findings_that_hold}
