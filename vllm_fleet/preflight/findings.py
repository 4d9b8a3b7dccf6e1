"""A finding: a stable code, how grave it is, and one sentence of what was found with one of what to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from vllm_fleet.preflight.codes import CODES


class Severity(StrEnum):
    """An error would stop the run; a warning would not, and is worth knowing."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True)
class Finding:
    """One thing found on a host; the message never names the host."""

    code: str
    severity: Severity
    message: str

    @classmethod
    def from_mapping(cls, found: Mapping[str, Any]) -> Finding:
        """Read a finding as modules and roles hand it over."""
        return cls(str(found["code"]), Severity(found["severity"]), str(found["message"]))

    def as_dict(self) -> dict[str, str]:
        """Return the form in which modules and roles hand it over."""
        return {"code": self.code, "severity": str(self.severity), "message": self.message}


def error(code: str, message: str) -> Finding:
    """Return a finding that stops the run; `code` must be registered."""
    return Finding(CODES[code].code, Severity.ERROR, message)


def warning(code: str, message: str) -> Finding:
    """Return a finding that does not stop the run; `code` must be registered."""
    return Finding(CODES[code].code, Severity.WARNING, message)


def repaired(by_this_run: bool, code: str, message: str) -> Finding:
    """Return a warning where this run will repair what was found, an error where a person has to."""
    return warning(code, message) if by_this_run else error(code, message)
