"""A cgroup of its own for each host, on machines whose init is not systemd."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

from vllm_fleet.errors import FleetError

CGROUPS = Path("/sys/fs/cgroup")


def hierarchies(root: Path = CGROUPS) -> list[Path]:
    """Return the mounted hierarchies: the one of cgroup v2, or those of v1, named ones and a hybrid's v2 included."""
    if (root / "cgroup.procs").exists():
        return [root]
    # cpu,cpuacct is one hierarchy with links of both names.
    return sorted(path for path in root.glob("*") if (path / "cgroup.procs").exists() and not path.is_symlink())


def directories(name: str) -> list[Path]:
    """Return where the cgroups of a host are, whether or not they exist."""
    return [hierarchy / name for hierarchy in hierarchies()]


def cpu_weight() -> int:
    """Return the CPUWeight= of this process's nice value, 100 for 0: a host gives way as the command that made it."""
    return min(max(1, round(100 * 1.25 ** -os.getpriority(os.PRIO_PROCESS, 0))), 10000)


def create(name: str) -> None:
    """Make the cgroups of a host, empty of processes; its part of busy CPUs follows this process's nice value.

    Raises:
        FleetError: the machine's cgroups cannot be written to.
    """
    if not (found := directories(name)):
        raise FleetError(f"No control groups are mounted at {CGROUPS}. Run: mount -t cgroup2 cgroup2 {CGROUPS}")
    for directory in found:
        try:
            if not (directory.parent / "cgroup.controllers").exists():
                directory.mkdir(exist_ok=True)
                for file in ("cpuset.cpus", "cpuset.mems"):  # empty in a new cgroup, which then takes no process
                    with suppress(FileNotFoundError):
                        (directory / file).write_text((directory.parent / file).read_text())
                continue
            _delegate(directory.parent)
            directory.mkdir(exist_ok=True)
        except OSError as error:
            raise FleetError(f"The control group {directory} cannot be made: {error.strerror}.") from None
    for directory in found:
        for file, value in (("cpu.weight", cpu_weight()), ("cpu.shares", max(2, 1024 * cpu_weight() // 100))):
            if (directory / file).exists():
                (directory / file).write_text(str(value))


def enter(name: str) -> None:
    """Move this process into the cgroups of a host."""
    for directory in directories(name):
        (directory / "cgroup.procs").write_text("0\n")


def processes(name: str) -> list[int]:
    """Return the processes of a host."""
    found: set[int] = set()
    for directory in directories(name):
        for file in directory.rglob("cgroup.procs"):
            with suppress(OSError):
                found.update(map(int, file.read_text().split()))
    return sorted(found - {0})


def remove(name: str, timeout: float = 10) -> None:
    """Kill what is left of a host and remove its cgroups.

    Raises:
        FleetError: a process does not go within `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    while left := processes(name):
        if time.monotonic() > deadline:
            raise FleetError(f"Processes of the lab host {name} cannot be killed: {', '.join(map(str, left))}.")
        for process in left:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.02)
    for directory in directories(name):
        for path in sorted(directory.rglob("*/"), reverse=True):
            _remove(path)
        _remove(directory)


def _remove(directory: Path) -> None:
    """Remove one cgroup; the kernel takes a moment to let go of the last process."""
    for _ in range(100):
        try:
            directory.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(0.02)


def _delegate(parent: Path) -> None:
    """Offer all controllers to the children; where the kernel refuses, limits inside the host do not hold."""
    for controller in (parent / "cgroup.controllers").read_text().split():
        with suppress(OSError):
            (parent / "cgroup.subtree_control").write_text(f"+{controller}")
