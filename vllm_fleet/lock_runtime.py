"""Write the lock files of the role vllm_runtime. Run by scripts/lock-runtime.

Each lock names every package with its version and the hashes of all its files, for Linux on x86_64.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from vllm_fleet.errors import FleetError

FILES = Path(__file__).resolve().parents[1] / "roles" / "vllm_runtime" / "files"
LOCKS = FILES / "locks"
PLATFORM = "implementation_name == 'cpython' and platform_machine == 'x86_64' and sys_platform == 'linux'"


@dataclass(frozen=True)
class Lock:
    """One lock file.

    Attributes:
        name: stem of its input and of the lock.
        below: first minor version of Python 3 it is not for.
        overrides: whether a file of overrides stands beside its input.
        exact: packages of which no other build of the version will do, such as one "+cpu" that a mirror offers.
        find_links: whether files may come from pip's find-links, where torch's CPU build may lie.
    """

    name: str
    below: int
    overrides: bool = False
    exact: tuple[str, ...] = ()
    find_links: bool = False


ALL = (
    Lock("uv", below=15),
    Lock("cuda", below=15, exact=("torch", "torchaudio", "torchvision")),
    # The hash of torch's CPU build is that of its file for one Python, the one of Debian 12.
    Lock("cpu", below=12, overrides=True, find_links=True),
)


def without_platform(text: str, platform: str) -> str:
    """Drop from the lines of a lock the clauses of `platform`, which hold on every host the lock is for."""
    known = set(platform.split(" and "))
    lines = []
    for line in text.splitlines():
        requirement, separator, marker = line.removesuffix(" \\").partition(" ; ")
        if separator and " or " not in marker:
            clauses = [clause for clause in marker.split(" and ") if clause not in known]
            marker = " ; " + " and ".join(clauses) if clauses else ""
            line = requirement + marker + (" \\" if line.endswith(" \\") else "")
        lines.append(line)
    return "\n".join(lines) + "\n"


def with_exact(text: str, packages: Iterable[str]) -> str:
    """Pin `packages` with ===, which accepts no local version; == accepts 2.13.0+cpu for 2.13.0."""
    for package in packages:
        text = re.sub(rf"(?m)^{package}==(?=\d)", f"{package}===", text)
    return text


def compile_lock(lock: Lock, uv: str) -> None:
    """Write one lock file, keeping the versions it has where the inputs still allow them.

    Raises:
        FleetError: uv cannot resolve the inputs.
    """
    # uv reads the platforms to resolve for from a pyproject.toml in the directory it runs in.
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        for path in LOCKS.iterdir():
            shutil.copy(path, work)
        platform = f"python_full_version < '3.{lock.below}' and {PLATFORM}"
        (work / "pyproject.toml").write_text(f'[tool.uv]\nenvironments = ["{platform}"]\n', encoding="utf-8")
        overrides = ("--overrides", f"{lock.name}.overrides") if lock.overrides else ()
        command = [
            *(sys.executable, str(FILES / "uv_with_pip_settings.py"), uv),
            *("pip", "compile", f"{lock.name}.in", "--constraints", "versions.txt", *overrides),
            *("--universal", "--python-version", "3.11", "--fork-strategy", "fewest"),
            *("--index-strategy", "unsafe-best-match", "--generate-hashes", "--no-annotate", "--no-emit-index-url"),
            *("--no-emit-find-links", "--custom-compile-command", "make locks", "--quiet"),
            *("--output-file", f"{lock.name}.txt"),
        ]
        # Locks come from the main index: a mirror's extra index may hold some files of a version and not others.
        environment = {**os.environ, "UV_EXTRA_INDEX_URL": "", **({} if lock.find_links else {"UV_FIND_LINKS": ""})}
        if subprocess.run(command, cwd=work, env=environment).returncode:
            raise FleetError(f"uv cannot resolve {LOCKS / lock.name}.in; its reason stands above.")
        text = (work / f"{lock.name}.txt").read_text(encoding="utf-8")
        (LOCKS / f"{lock.name}.txt").write_text(
            with_exact(without_platform(text, platform), lock.exact), encoding="utf-8"
        )


def main() -> int:
    """Write the lock files named on the command line, or all."""
    uv = shutil.which("uv")
    if uv is None:
        print("vllm-fleet: uv is missing; run: pip install uv", file=sys.stderr)
        return 2
    chosen = sys.argv[1:] or [lock.name for lock in ALL]
    try:
        for lock in ALL:
            if lock.name in chosen:
                compile_lock(lock, uv)
                print(f"{LOCKS / lock.name}.txt")
    except FleetError as error:
        print(f"vllm-fleet: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
