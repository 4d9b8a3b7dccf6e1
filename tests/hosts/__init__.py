"""Recorded and constructed hosts: one YAML file each, laid out below a directory for gpu_host_facts to read.

Keys of a file:
    origin: "recorded" (read on a real machine) or "constructed".
    source: where its data come from, in a sentence.
    system, gpus, nvswitches, driver, services: what `tests.hosts.machine` makes files and commands of.
    files: {path: text}; null removes what the above made, and a path that ends in "/" is an empty directory.
    links: {path: target}.
    commands: {command line: {rc, stdout, stderr, hangs}}, or stdout_from: a file beside this one; null removes one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.hosts import machine

HOSTS = Path(__file__).resolve().parent
ORIGINS = ("recorded", "constructed")


@dataclass(frozen=True)
class Host:
    """A host as files, links and answers to commands."""

    name: str
    origin: str
    source: str
    files: dict[str, str]
    links: dict[str, str]
    commands: dict[str, dict[str, Any]]


def names() -> list[str]:
    """Return the names of all hosts."""
    return sorted(path.stem for path in HOSTS.glob("*.yml"))


def read(path: Path) -> Host:
    """Read one host's file."""
    described = yaml.safe_load(path.read_text())
    made = machine.make(described)
    files = {**made.files, **described.get("files", {})}
    commands = {**made.commands, **described.get("commands", {})}
    kept = {line: dict(answer) for line, answer in commands.items() if answer is not None}
    for answer in kept.values():
        if beside := answer.pop("stdout_from", None):
            answer["stdout"] = (path.parent / beside).read_text()
    return Host(
        name=path.stem,
        origin=described["origin"],
        source=described["source"],
        files={name: text for name, text in files.items() if text is not None},
        links={**made.links, **described.get("links", {})},
        commands=kept,
    )


def named(name: str) -> Host:
    """Read one host by its name."""
    return read(HOSTS / f"{name}.yml")


def build(host: Host, root: Path) -> Path:
    """Lay a host out below an empty directory; returns the directory."""
    for name, text in host.files.items():
        file = root / name.lstrip("/")
        if name.endswith("/"):
            file.mkdir(parents=True, exist_ok=True)
            continue
        file.parent.mkdir(parents=True, exist_ok=True)
        # Latin-1 where a file is no text: firmware variables, a PCI device's configuration.
        binary = name.startswith("/sys/firmware/efi/efivars/") or name.endswith("/config")
        file.write_bytes(text.encode("latin-1" if binary else "utf-8"))
    for name, target in host.links.items():
        link = root / name.lstrip("/")
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target)
    (root / "commands.json").write_text(json.dumps(host.commands, indent=1))
    return root
