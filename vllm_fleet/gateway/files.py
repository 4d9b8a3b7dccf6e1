"""Where a deployment's secrets are kept on the controller, and how their files are written: private and whole."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vllm_fleet.errors import FleetError

ROOT = Path(__file__).resolve().parents[2]
DEFAULT_INVENTORY = ROOT / "inventory" / "lab"
CA_FILE = "ca.pem"  # the only file clients are given
FILE_MODE, DIRECTORY_MODE = 0o600, 0o700


def secrets_directory(inventory: str | None = None) -> Path:
    """Return the secrets directory of an inventory, as the gateway role names it by default.

    Args:
        inventory: a directory, or a file in one, as for ``ansible-playbook -i``; None means the default one.
    """
    path = Path(os.path.abspath(inventory)) if inventory else DEFAULT_INVENTORY  # noqa: PTH100 - links keep their names
    name = path.name if path.is_dir() else path.parent.name
    return ROOT / ".vllm-fleet" / "secrets" / name


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Be the only one that writes in a secrets directory, which is made where it is missing.

    Raises:
        FleetError: it cannot be written.
    """
    with _sentence(directory, "written"):
        make_directory(directory)
        descriptor = os.open(directory / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
    try:
        with _sentence(directory, "locked"):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def make_directory(directory: Path) -> None:
    """Make a directory that only its owner may enter, or make it so."""
    directory.mkdir(parents=True, exist_ok=True, mode=DIRECTORY_MODE)
    if stat.S_IMODE(directory.stat().st_mode) != DIRECTORY_MODE:
        directory.chmod(DIRECTORY_MODE)


def read(file: Path) -> str | None:
    """Return a file's text, None where there is no such file.

    Raises:
        FleetError: it cannot be read, or is no text.
    """
    with _sentence(file, "read"):
        try:
            return file.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except UnicodeDecodeError:
            raise FleetError(f"{file} is damaged: it is no text. Restore it from a backup, or remove it.") from None


def write(file: Path, text: str) -> None:
    """Replace a file; whoever reads it, or ends this process, finds the former text or this one, never a part.

    For the holder of `locked` only: the name of the unfinished file is always the same, so that nothing is left over.

    Raises:
        FleetError: it cannot be written.
    """
    unfinished = file.with_name(f".{file.name}.new")
    with _sentence(file, "written"):
        make_directory(file.parent)
        unfinished.unlink(missing_ok=True)
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
        with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
            opened.write(text)
            opened.flush()
            os.fsync(opened.fileno())
        unfinished.replace(file)


def made_private(file: Path, repair: bool) -> str | None:
    """Take a secret's file from group and others, and return a sentence for the operator if they had it.

    Args:
        file: of a secret.
        repair: False only looks.

    Raises:
        FleetError: it is somebody else's file.
    """
    with _sentence(file, "made private"):
        try:
            mode = stat.S_IMODE(file.stat().st_mode)
        except (FileNotFoundError, NotADirectoryError):
            return None
        if not mode & 0o077:
            return None
        if repair:
            file.chmod(FILE_MODE)
    done = "It is private now" if repair else "A run makes it private"
    return (
        f"{file} could be read by others than its owner (mode {mode:04o}). {done}; replace it if they are not trusted."
    )


@contextmanager
def _sentence(path: Path, verb: str) -> Iterator[None]:
    """Turn what the operating system refuses into a sentence."""
    try:
        yield
    except OSError as error:
        raise FleetError(
            f"{path} cannot be {verb}: {error.strerror or error}. "
            "Run this as the owner of the secrets directory, or name another one: gateway_secrets_directory "
            "in the inventory, --directory of scripts/gateway-keys."
        ) from None
