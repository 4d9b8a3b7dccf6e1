"""A model in a directory."""

from __future__ import annotations

from pathlib import Path

from .errors import Unread


class Directory:
    """Files of a directory, by name; those below it do not matter here."""

    def __init__(self, path, kind="directory"):
        """``kind`` is what the description calls its source."""
        self.path = Path(path)
        self.kind = kind

    def files(self):
        """Return the size in bytes of each file by its name."""
        try:
            return {entry.name: entry.stat().st_size for entry in sorted(self.path.iterdir()) if entry.is_file()}
        except FileNotFoundError:
            raise Unread(f"{self.path} is not there") from None
        except OSError as problem:
            raise Unread(f"{self.path} cannot be read: {problem.strerror}") from None

    def part(self, name, start, length):
        """Return up to ``length`` bytes of a file from ``start`` on."""
        try:
            with (self.path / name).open("rb") as file:
                file.seek(start)
                return file.read(length)
        except OSError as problem:
            raise Unread(f"{self.path / name} cannot be read: {problem.strerror}") from None
