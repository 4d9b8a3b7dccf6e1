"""Python environments with clients that are no part of this project, from the locks in requirements/.

Each is made once per machine, beside the lab's downloads, and made anew when its lock changes. `scripts/lab down
--purge` removes them.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from vllm_fleet.lab.lock import locked
from vllm_fleet.lab.settings import from_environment

REQUIREMENTS = Path(__file__).resolve().parents[1] / "requirements"
INSTALL_SECONDS = 900


def client_python(name: str) -> Path:
    """Return the Python that has what requirements/<name>.lock pins; make its environment where it is missing.

    Raises:
        AssertionError: it cannot be made; the message is pip's.
    """
    lock = REQUIREMENTS / f"{name}.lock"
    stamp = hashlib.sha256(lock.read_bytes()).hexdigest()[:16]
    directory = from_environment(os.environ).environments / f"{name}-{stamp}-{sys.implementation.cache_tag}"
    python = directory / "bin" / "python"
    # Written last: an environment without it was left half made.
    whole = directory / "whole"
    with locked(f"environment-{directory.name}"):
        if not (whole.exists() and python.exists()):
            shutil.rmtree(directory, ignore_errors=True)
            _run(sys.executable, "-m", "venv", str(directory))
            _run(
                *(str(python), "-m", "pip", "install", "--quiet", "--no-compile", "--disable-pip-version-check"),
                *("--require-hashes", f"--requirement={lock}"),
            )
            whole.touch()
    return python


def _run(*command: str) -> None:
    # It ends with this process: left alone, it would write into what the next one makes. Not so what it starts itself,
    # as `pip --python` does.
    tied = ("setpriv", "--pdeathsig=KILL", *command)
    done = subprocess.run(tied, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
