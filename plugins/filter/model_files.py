"""Filter that describes a model in a directory of the controller, for models that are copied from there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ansible.module_utils

# Modules are given this package by Ansible; on the controller only its own are importable.
MODULE_UTILS = str(Path(__file__).resolve().parents[1] / "module_utils")
if MODULE_UTILS not in ansible.module_utils.__path__:
    ansible.module_utils.__path__.append(MODULE_UTILS)

from ansible.module_utils.model_files.describe import describe  # noqa: E402 - found by the path set above
from ansible.module_utils.model_files.directory import Directory  # noqa: E402
from ansible.module_utils.model_files.errors import Unread  # noqa: E402


def model_description(directory: str) -> dict[str, Any]:
    """Return ``{"description": {...} or None, "reason": why not, or None}`` of the model in `directory`."""
    try:
        return {"description": describe(Directory(directory, "controller")), "reason": None}
    except Unread as problem:
        return {"description": None, "reason": str(problem)}


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by the names templates use."""
        return {"model_description": model_description}
