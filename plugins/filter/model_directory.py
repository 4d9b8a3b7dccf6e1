"""Filters that describe a directory of the controller, for models that are copied from there."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any


def directory_listing(directory: str) -> dict[str, dict[str, int]]:
    """Return size in bytes and modification time in ns of each file below `directory`; empty where there is none."""
    root = Path(directory)
    stats = {str(path.relative_to(root)): path.stat() for path in sorted(root.rglob("*")) if path.is_file()}
    return {name: {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns} for name, stat in stats.items()}


def directory_hashes(directory: str) -> dict[str, dict[str, Any]]:
    """Return what `directory_listing` does, with the SHA-256 of each file."""
    listing: dict[str, dict[str, Any]] = {**directory_listing(directory)}
    for name, entry in listing.items():
        with (Path(directory) / name).open("rb") as file:
            listing[name] = {**entry, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
    return listing


def with_sources(models: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add to each model that is copied from the controller the listing of its directory, as `source`."""
    return [
        {**model, "source": directory_listing(model["copy_from"])} if model["copy_from"] else model for model in models
    ]


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by the names templates use."""
        return {
            "directory_listing": directory_listing,
            "directory_hashes": directory_hashes,
            "with_sources": with_sources,
        }
