"""What a model server meets on its host: systemd, other processes, device locks, its cache."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pwd
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
STATES = {"R": "runs", "S": "waits", "D": "waits for a driver or a disk", "T": "is stopped", "t": "is traced"}
# Failed starts in a row after which what was compiled is no longer trusted.
CACHE_TRIES = 3


def notify(**fields: str | int) -> None:
    """Send fields such as ``READY=1`` to systemd; without systemd, do nothing."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    message = "\n".join(f"{key}={value}" for key, value in fields.items())
    # A status line that cannot be delivered is no reason to stop serving.
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.connect("\0" + address[1:] if address.startswith("@") else address)
        sock.sendall(message.encode())


def say(text: str) -> None:
    """Write one line to the journal."""
    print(f"vllm-notify: {text}", file=sys.stderr, flush=True)


def credential(name: str) -> str | None:
    """Return a secret handed over by systemd's LoadCredential=, or None."""
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    file = Path(directory, name) if directory else None
    return file.read_text(encoding="utf-8").strip() if file is not None and file.exists() else None


@contextlib.contextmanager
def device_locks(paths: Sequence[Path], mode: int, waiting: Callable[[str], bool]) -> Iterator[bool]:
    """Hold the locks of a server's devices; yield False where ``waiting`` gave up.

    A start measures the memory of its devices: it holds LOCK_EX, so that no other server takes memory or gives it
    back meanwhile. Stops hold LOCK_SH and run beside each other. Locks are taken in sorted order, so that two servers
    can never wait for each other, and end with the process whatever happens.
    """
    with contextlib.ExitStack() as stack:
        for path in sorted(paths):
            file = stack.enter_context(path.open("a+", encoding="utf-8"))
            while True:
                try:
                    fcntl.flock(file, mode | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if not waiting(path.stem):
                        yield False
                        return
        yield True


def _read(path: Path) -> str:
    """Return a file of /proc or /sys; empty where it is gone or not for us."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


@dataclass(frozen=True)
class Process:
    """One process of this host, with its state in the letters of ps."""

    pid: int
    name: str
    state: str
    cgroup: str

    def __str__(self) -> str:
        return f"{self.name} (pid {self.pid}, {STATES.get(self.state, self.state)})"


def processes() -> list[Process]:
    """Return the processes this user may see, except this one and those that have ended."""
    found = []
    for directory in PROC.glob("[0-9]*"):
        # Behind the last parenthesis, since a name may hold any character.
        state = _read(directory / "stat").rpartition(")")[2][1:2]
        command = _read(directory / "cmdline").partition("\0")[0] or _read(directory / "comm")
        if state not in ("", "Z", "X") and int(directory.name) != os.getpid():
            found.append(Process(int(directory.name), command.strip(), state, _read(directory / "cgroup")))
    return found


def of_unit(unit: str) -> list[Process]:
    """Return the other processes of this unit; none where this process does not run in a service of that name."""
    own = _read(PROC / "self/cgroup")
    # What is returned will be killed: a cgroup that others share, such as a login's or the root, must never match.
    if not unit.endswith(".service") or not any(line.endswith(f"/{unit}") for line in own.splitlines()):
        return []
    return [process for process in processes() if process.cgroup == own]


def kill(unit: str, seconds: float) -> list[Process]:
    """Kill the other processes of this unit; return those that are still there after ``seconds``."""
    limit = time.monotonic() + seconds
    while left := of_unit(unit):
        for process in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
        if time.monotonic() > limit:
            return left
        time.sleep(0.1)
    return []


def port_holder(port: int) -> str | None:
    """Return in words who listens on a TCP port, or None."""
    for table in ("tcp", "tcp6"):
        for fields in map(str.split, _read(PROC / "net" / table).splitlines()[1:]):
            if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                return _socket_owner(int(fields[7]), f"socket:[{fields[9]}]")
    return None


def _socket_owner(uid: int, link: str) -> str:
    for process in processes():
        with contextlib.suppress(OSError):
            if link in (os.readlink(fd) for fd in (PROC / str(process.pid) / "fd").iterdir()):  # noqa: PTH115 - no Path
                unit = process.cgroup.strip().rpartition("/")[2]
                return f"{process.name} (pid {process.pid}{', unit ' + unit if unit.endswith('.service') else ''})"
    # Processes of other users are not seen from here (ProtectProc=), their sockets are.
    try:
        return f"a process of user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"a process of user id {uid}"


def oom_kills() -> int:
    """Return how many processes of this cgroup the kernel has killed for lack of memory."""
    for line in _read(PROC / "self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        file = {"": f"/sys/fs/cgroup{path}/memory.events", "memory": f"/sys/fs/cgroup/memory{path}/memory.oom_control"}
        for entry in _read(Path(file[controllers])).splitlines() if controllers in file else ():
            name, _, count = entry.partition(" ")
            if name == "oom_kill":
                return int(count)
    return 0


class Starts:
    """Counts starts that fail in a row, in the server's cache directory, which can itself keep a crash alive.

    Other than systemd's start limit this neither counts a server that has served nor blocks a start by hand.
    """

    def __init__(self, cache: str | None, tries: int) -> None:
        self.cache = Path(cache) if cache else None
        self.tries = tries
        self.failed = 0

    def begin(self) -> bool:
        """Count a start as failed until `forget`; return False where so many have failed that none is left.

        The start after CACHE_TRIES failed ones gets an empty cache.
        """
        if self.cache is None:
            return True
        counter = self.cache / "failed-starts"
        count = _read(counter).strip()
        self.failed = int(count) if count.isdecimal() else 0
        try:
            counter.write_text(f"{self.failed + 1}\n", encoding="utf-8")
            if self.failed == CACHE_TRIES:
                say(f"{self.failed} starts in a row have failed: an empty cache for this one, the old one is set aside")
                self._set_aside(self.cache, counter)
        except OSError as error:
            say(f"cache directory: {error}")
        return self.failed < self.tries

    def _set_aside(self, cache: Path, counter: Path) -> None:
        aside = cache / "set-aside"
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        for entry in cache.iterdir():
            if entry not in (aside, counter):
                entry.rename(aside / entry.name)

    @property
    def exhausted(self) -> bool:
        """Whether the start that was begun is the last one to be tried."""
        return self.failed + 1 >= self.tries

    def forget(self) -> None:
        """Begin to count anew."""
        if self.cache is not None:
            with contextlib.suppress(OSError):
                (self.cache / "failed-starts").unlink(missing_ok=True)
