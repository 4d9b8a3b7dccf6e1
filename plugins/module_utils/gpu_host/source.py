"""Files and commands of a host: of this one, or of a recorded one that lies below a directory."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from ansible.module_utils.gpu_host.limits import run_command

FILE_BYTES = 4 * 2**20
# An ssh session of an unprivileged user lacks the sbin directories; a driver may bring a directory of its own.
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/nvidia/bin"


class Answer:
    """What came of a command.

    ``state`` is "ok", "failed" (another exit status than 0), "missing" (no such program) or "hangs".
    """

    def __init__(self, state, rc=None, stdout="", stderr=""):
        self.state = state
        self.rc = rc
        self.stdout = stdout
        self.stderr = stderr


class Source:
    """A host as it can be read below ``root``; commands get ``timeout`` seconds each.

    ``hung`` lists those that did not answer.
    """

    def __init__(self, root="/", timeout=20):
        self.root = Path(root)
        self.timeout = timeout
        self.live = str(self.root) == "/"
        self.hung = []
        self._commands = {} if self.live else json.loads(self.read("/commands.json") or "{}")

    def where(self, path):
        """Return where a path of the host lies; links are followed without leaving the root."""
        if self.live:
            return Path(path)
        parts, done, hops = [part for part in path.split("/") if part], [], 0
        while parts:
            part = parts.pop(0)
            if part == "..":
                done = done[:-1]
                continue
            here = self.root.joinpath(*done, part)
            if here.is_symlink() and hops < 40:
                hops += 1
                target = os.readlink(str(here))  # noqa: PTH115 - Path.readlink is 3.9
                parts = [piece for piece in target.split("/") if piece not in ("", ".")] + parts
                done = [] if target.startswith("/") else done
            else:
                done.append(part)
        return self.root.joinpath(*done)

    def read_bytes(self, path):
        """Return the beginning of a file, None where there is none or it cannot be read."""
        try:
            with self.where(path).open("rb") as file:
                return file.read(FILE_BYTES)
        except OSError:
            return None

    def read(self, path):
        """Return the text of a file, None where there is none; bytes that are no UTF-8 are replaced."""
        content = self.read_bytes(path)
        return None if content is None else content.decode("utf-8", "replace")

    def word(self, path):
        """Return the text of a file without white space around it, None where it is empty or absent."""
        return (self.read(path) or "").strip() or None

    def names(self, path):
        """Return the sorted names in a directory, none where there is none; names that are no text are left out."""
        try:
            listed = os.listdir(str(self.where(path)))  # noqa: PTH208 - there may be thousands, and only names count
            return sorted(name for name in listed if name.isprintable())
        except OSError:
            return []

    def exists(self, path):
        """Whether there is something at a path, links followed."""
        try:
            return self.where(path).exists()
        except OSError:
            return False

    def is_directory(self, path):
        """Whether a path is a directory, links followed."""
        try:
            return self.where(path).is_dir()
        except OSError:
            return False

    def link(self, path):
        """Return the text of a link, None where there is no link."""
        directory, _, name = path.rpartition("/")
        try:
            return os.readlink(str(self.where(directory or "/") / name))  # noqa: PTH115 - Path.readlink is 3.9
        except OSError:
            return None

    def target(self, path):
        """Return where a path leads after all links; of links that go in a circle, some place among them."""
        return os.path.realpath(str(self.where(path)))  # Path.resolve raises at a circle

    def run(self, *argv):
        """Run a command; never raises, never takes longer than the limit."""
        if self.live:
            environment = dict(os.environ, LC_ALL="C", PATH="{}:{}".format(os.environ.get("PATH", ""), PATH))
            found = run_command(list(argv), self.timeout, environment)
        else:
            found = self._commands.get(" ".join(argv))
        if found is None:
            return Answer("missing")
        stdout, stderr = (_text(found.get(name, "")) for name in ("stdout", "stderr"))
        if found.get("hangs"):
            self.hung.append(" ".join(argv))
            return Answer("hangs", None, stdout, stderr)
        rc = found.get("rc", 0)
        return Answer("ok" if rc == 0 else "failed", rc, stdout, stderr)


def _text(output):
    """Return output as text without terminal codes."""
    text = output.decode("utf-8", "replace") if isinstance(output, bytes) else output
    return re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text)


def number(text):
    """Return the integer a text starts with ("81559 MiB"), None where it starts with none."""
    match = re.match(r"\s*(-?\d+)", text or "")
    return int(match.group(1)) if match else None


def expand(ranges):
    """Return the numbers of a kernel list such as "0-3,8"."""
    numbers = []
    for part in (ranges or "").strip().split(","):
        match = re.fullmatch(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", part)  # the kernel knows 8192 CPUs at most
        if match:
            numbers.extend(range(int(match.group(1)), int(match.group(2) or match.group(1)) + 1))
    return numbers
