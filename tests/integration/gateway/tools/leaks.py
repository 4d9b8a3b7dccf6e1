"""Tell where on this host a secret can be found.

Input: door (not used), secrets (name -> text). Output: a list of [secret's name, where, who may read it: mode or ""].
"""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

from wire import task, tell

PLACES = ["/etc", "/run", "/tmp", "/var", "/root", "/home", "/dev/shm", "/opt/vllm-fleet/libexec"]
LARGEST_BYTES = 4 << 20


def files() -> Iterator[Path]:
    for place in PLACES:
        for directory, _, names in os.walk(place):
            for name in names:
                file = Path(directory, name)
                mode = file.lstat().st_mode
                if stat.S_ISREG(mode) and file.stat().st_size <= LARGEST_BYTES:
                    yield file


def found_in(data: bytes, secrets: dict[str, bytes]) -> list[str]:
    return [name for name, secret in secrets.items() if secret in data]


def main() -> None:
    _, given = task()
    secrets = {name: text.encode() for name, text in given["secrets"].items()}
    found: list[list[str]] = []
    for command in (
        ["journalctl", "--no-pager", "--output=cat", "--all"],
        ["ps", "-eww", "-o", "args"],
        ["systemctl", "show", "vllm-*"],
        ["systemctl", "cat", "vllm-*"],
    ):
        output = subprocess.run(command, capture_output=True, check=False).stdout
        found += [[name, " ".join(command), ""] for name in found_in(output, secrets)]
    for file in Path("/proc").glob("[0-9]*/environ"):
        try:
            found += [[name, str(file), ""] for name in found_in(file.read_bytes(), secrets)]
        except OSError:
            continue
    for file in files():
        try:
            found += [
                [name, str(file), oct(file.stat().st_mode & 0o777)] for name in found_in(file.read_bytes(), secrets)
            ]
        except OSError:
            continue
    tell(found)


if __name__ == "__main__":
    main()
