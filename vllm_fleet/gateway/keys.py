"""API keys that were generated on the controller: one file per key name, one secret per line, the current one first."""

from __future__ import annotations

import re
import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from vllm_fleet.errors import FleetError
from vllm_fleet.gateway import files

SECRET_BYTES = 32
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
SECRET = re.compile(r"[\x21-\x7e]{16,512}")


@dataclass(frozen=True)
class Keys:
    """What is known of the keys asked for.

    ``secrets`` by name, the current one first; ``made`` names those that were generated just now, ``missing`` those
    that another controller made.
    """

    secrets: dict[str, tuple[str, ...]]
    made: tuple[str, ...]
    missing: tuple[str, ...]
    warnings: tuple[str, ...]


def generate() -> str:
    """Return a new secret: 256 random bits."""
    return f"sk-{secrets.token_urlsafe(SECRET_BYTES)}"


def file_of(directory: Path, name: str) -> Path:
    """Return the file of a key.

    Raises:
        FleetError: the name cannot be one.
    """
    if not NAME.fullmatch(name):
        raise FleetError(f"{name!r} cannot name a key: letters, digits and . _ - only, the first a letter or a digit.")
    return directory / "keys" / name


def names(directory: Path) -> list[str]:
    """Return the names of all keys that are kept here."""
    return sorted(file.name for file in (directory / "keys").glob("*") if NAME.fullmatch(file.name))


def read(directory: Path, name: str) -> tuple[str, ...] | None:
    """Return the secrets of a key, None where there is no such key.

    Raises:
        FleetError: its file cannot be read or is damaged.
    """
    file = file_of(directory, name)
    text = files.read(file)
    if text is None:
        return None
    found = tuple(line.strip() for line in text.splitlines() if line.strip())
    if not found:
        raise FleetError(
            f"{file} is empty. Restore it from a backup. Without one, remove it, run: scripts/gateway-keys --directory "
            f"{directory} create {name}, then playbooks/gateway.yml, and give clients the new secret."
        )
    for number, secret in enumerate(found, 1):
        if not SECRET.fullmatch(secret):
            raise FleetError(
                f"{file} is damaged: secret {number} of {len(found)} is not 16 to 512 printable ASCII characters. "
                "Restore it from a backup, or correct that line."
            )
    return found


def ensure(directory: Path, wanted: Sequence[str], elsewhere: Collection[str] = (), dry: bool = False) -> Keys:
    """Return the secrets of the keys asked for, generated where they are nowhere.

    Args:
        directory: of the secrets.
        wanted: names of keys.
        elsewhere: names of keys that a gateway has already. Where such a one is not kept here another controller made
            it, and another secret for it would lock its clients out.
        dry: write nothing; what is generated is not kept.

    Raises:
        FleetError: a file cannot be read or written, or is damaged.
    """
    if dry or all(read(directory, name) for name in wanted):
        return _ensure(directory, wanted, elsewhere, dry)
    with files.locked(directory):
        return _ensure(directory, wanted, elsewhere, dry)


def _ensure(directory: Path, wanted: Sequence[str], elsewhere: Collection[str], dry: bool) -> Keys:
    found: dict[str, tuple[str, ...]] = {}
    made, missing, warnings = [], [], []
    for name in wanted:
        known = read(directory, name)
        if known:
            found[name] = known
            warnings.append(files.made_private(file_of(directory, name), repair=not dry))
        elif name in elsewhere:
            missing.append(name)
        else:
            found[name] = (generate(),)
            made.append(name)
            if not dry:
                _write(directory, name, found[name])
    return Keys(found, tuple(made), tuple(missing), tuple(warning for warning in warnings if warning))


def create(directory: Path, name: str) -> str:
    """Generate a key that is not kept here, whoever may know another secret of it. Returns its secret.

    Raises:
        FleetError: it is kept here already, or cannot be written.
    """
    file_of(directory, name)
    with files.locked(directory):
        if read(directory, name):
            raise FleetError(
                f"Key {name} is kept in {directory} already. A new secret beside the former: rotate {name}."
            )
        secret = generate()
        _write(directory, name, (secret,))
    return secret


def rotate(directory: Path, name: str) -> tuple[str, ...]:
    """Put a new secret in front of those of a key; they stay accepted. Returns all of them.

    Raises:
        FleetError: there is no such key, or it cannot be written.
    """
    known_key(directory, name)
    with files.locked(directory):
        found = (generate(), *known_key(directory, name))
        _write(directory, name, found)
    return found


def retire(directory: Path, name: str) -> int:
    """Drop all secrets of a key but the current one. Returns how many.

    Raises:
        FleetError: there is no such key, or it cannot be written.
    """
    known_key(directory, name)
    with files.locked(directory):
        found = known_key(directory, name)
        if len(found) > 1:
            _write(directory, name, found[:1])
    return len(found) - 1


def known_key(directory: Path, name: str) -> tuple[str, ...]:
    """Return the secrets of a key.

    Raises:
        FleetError: there is no such key here, with the names of those that are.
    """
    found = read(directory, name)
    if found is None:
        there = ", ".join(names(directory)) or "none"
        raise FleetError(
            f"There is no generated key {name} in {directory}; there: {there}. Keys whose secrets stand in the "
            "inventory are not kept here; another directory is named by -i INVENTORY or --directory."
        )
    return found


def _write(directory: Path, name: str, secrets_: Sequence[str]) -> None:
    files.write(file_of(directory, name), "".join(f"{secret}\n" for secret in secrets_))
