"""Findings as modules return them, and what file systems are to take. Python 3.8, standard library only."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

HEADROOM = 1 << 30


def error(code, message):
    """Return a finding that stops the run: what was found, and what to do."""
    return {"code": code, "severity": "error", "message": message}


def warning(code, message):
    """Return a finding that does not stop the run."""
    return {"code": code, "severity": "warning", "message": message}


def mount_of(path):
    """Return the mount point of the file system that `path` is, or would be, on."""
    path = Path(path)
    while not path.exists():
        path = path.parent
    path = path.resolve()
    while not os.path.ismount(str(path)):
        path = path.parent
    return str(path)


def disk_need(owner, path, size):
    """Return where `size` bytes of the role `owner` are to go: path, bytes, mount point, bytes free there."""
    mount = mount_of(path)
    return {
        "owner": owner,
        "path": str(path),
        "bytes": size,
        "mount": mount,
        "free_bytes": shutil.disk_usage(mount).free,
    }


def room_findings(needs, remedy):
    """Return a finding for each file system that cannot take what `needs` (of `disk_need`) puts on it."""
    findings = []
    for mount in sorted({need["mount"] for need in needs}):
        here = [need for need in needs if need["mount"] == mount]
        free, total = here[0]["free_bytes"], sum(need["bytes"] for need in here) + HEADROOM
        if free < total:
            paths = " and ".join(need["path"] for need in here)
            message = f"{paths}: {free / 1e9:.1f} GB free, at least {total / 1e9:.1f} GB needed. {remedy}"
            findings.append(error("disk-too-small", message))
    return findings
