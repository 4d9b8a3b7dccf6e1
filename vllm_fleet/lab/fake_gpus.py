"""Make a lab host look like a machine with GPUs: everything that asks for them finds what such a machine shows.

Nothing computes. The files and the answers come from a directory that somebody else laid out (`tests/hosts`).
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vllm_fleet.errors import FleetError
from vllm_fleet.lab.process import run

ROOT = Path(__file__).resolve().parents[2]
HOSTS = ROOT / "tests/hosts"
PLACE = Path("/usr/lib/vllm-fleet-lab/fake-gpus")
LIBRARIES = Path("/usr/local/nvidia/lib64")

_PROGRAMS = ("nvidia-smi", "nv-fabricmanager", "modinfo", "dmesg")
_KERNEL_LOG = "journalctl -k -b -o cat --no-pager"
_NO_LIBRARY = "This is no library: the GPUs of this lab host are fake, and only the file's name is of use.\n"

# A host's own /proc and /sys cannot be written to, and systemd-nspawn mounts them after everything it binds.
_START = f"""#!/bin/sh
# FAKE GPUS: put the files of another machine where the driver would have its own.
set -e
tree={PLACE}/tree
if [ -d "$tree/proc/driver" ]; then mount --bind "$tree/proc/driver" /proc/driver; fi
if [ -f "$tree/proc/modules" ] && [ -e /proc/modules ]; then mount --bind "$tree/proc/modules" /proc/modules; fi
if [ -d "$tree/sys/module" ]; then
    mount -o remount,rw,bind /sys
    mkdir -p /sys/module
    mount --bind "$tree/sys/module" /sys/module
    mount -o remount,ro,bind /sys
fi
mkdir -p "$tree/sys/bus/pci/devices"
mount --bind "$tree/sys/bus/pci/devices" /sys/bus/pci/devices
for device in "$tree"/dev/nvidia*; do
    if [ -e "$device" ]; then cp -R "$device" /dev/; fi
done
"""
_ANSWER = '''#!/usr/bin/python3
"""FAKE: this machine has no GPU. Answers NVIDIA's tools, by the name it is called by, as another machine did."""

import json
import os
import signal
import sys
import time
from pathlib import Path

name = Path(sys.argv[0]).name
line = " ".join([name, *sys.argv[1:]])
answers = json.loads((Path(__file__).resolve().parent / "tree/commands.json").read_text())
if line not in answers:
    for directory in ("/usr/bin", "/usr/sbin"):
        if Path(directory, name).exists():
            os.execv(f"{directory}/{name}", [name, *sys.argv[1:]])
    known = ", ".join(sorted(known for known in answers if known.split()[0] == name))
    sys.exit(f"{name}: the fake GPUs of this lab host only answer: {known}")
answer = answers[line]
if answer.get("hangs"):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(86400)
sys.stdout.write(answer.get("stdout", ""))
sys.stderr.write(answer.get("stderr", ""))
sys.exit(answer.get("rc", 0))
'''
_UNIT = f"""[Unit]
Description=FAKE GPUS: look like another machine
DefaultDependencies=no
After=local-fs.target
Before=sysinit.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart={PLACE}/start
"""
# Stands for a daemon of the driver that runs on the other machine.
_DAEMON = """[Unit]
Description=FAKE: stands for {name}

[Service]
ExecStart=/bin/sleep infinity
DynamicUser=yes
"""


def known() -> list[str]:
    """Return the names that --fake-gpus takes."""
    return sorted(path.stem for path in HOSTS.glob("*.yml"))


def resolve(name: str) -> Path:
    """Return what a name or a path means: the file that describes a host, or the directory of one laid out.

    Raises:
        FleetError: neither is there.
    """
    for path in (HOSTS / f"{name}.yml", Path(name).absolute()):
        if path.is_file() or (path / "commands.json").is_file():
            return path
    raise FleetError(
        f"There are no fake GPUs called '{name}'. Known: {', '.join(known()) or 'none'}; a path works, too."
    )


def install(name: str, root: Path) -> None:
    """Put fake GPUs into the filesystem of a host that has not started yet.

    Args:
        name: as for `resolve`.
        root: the host's root directory.

    Raises:
        FleetError: they cannot be laid out.
    """
    source, place = resolve(name), root / PLACE.relative_to("/")
    tree = place / "tree"
    place.mkdir(parents=True)
    if source.is_dir():
        shutil.copytree(source, tree, symlinks=True)
    else:
        run(["env", f"PYTHONPATH={ROOT}", sys.executable, "-m", "tests.hosts", str(source), str(tree)])
    commands = json.loads((tree / "commands.json").read_text())
    if _KERNEL_LOG in commands:  # a container has no kernel log of its own, so that its journal has nothing to say
        commands.setdefault("dmesg", commands[_KERNEL_LOG])
        (tree / "commands.json").write_text(json.dumps(commands))
    _flatten(tree)
    _modules(tree)
    _executable(place / "start", _START)
    _executable(place / "answer", _ANSWER)
    programs = root / "usr/local/bin"
    for program in _PROGRAMS:
        if any(line.split()[0] == program for line in commands):
            (programs / program).symlink_to(PLACE / "answer")
    _libraries(tree, root)
    _unit(root, "vllm-fleet-fake-gpus.service", _UNIT, "sysinit.target")
    for daemon in _running(commands):
        _unit(root, daemon, _DAEMON.format(name=daemon), "multi-user.target")
    log = Path("var/log/fabricmanager.log")
    if (tree / log).is_file():
        shutil.copy(tree / log, root / log)


def _executable(path: Path, text: str) -> None:
    """Write a program."""
    path.write_text(text)
    path.chmod(0o755)


def _unit(root: Path, name: str, text: str, target: str) -> None:
    """Write a unit where a package would have it, and enable it."""
    file = Path("/usr/lib/systemd/system") / name
    (root / file.relative_to("/")).write_text(text)
    wants = root / f"etc/systemd/system/{target}.wants"
    wants.mkdir(parents=True, exist_ok=True)
    (wants / name).symlink_to(file)


def _flatten(tree: Path) -> None:
    """Make directories of the links to PCI devices, which would lead to the real ones where they are mounted."""
    for device in (tree / "sys/bus/pci/devices").glob("*"):
        if device.is_symlink() and (target := device.resolve()).is_dir() and target.is_relative_to(tree.resolve()):
            device.unlink()
            shutil.copytree(target, device, symlinks=True)


def _modules(tree: Path) -> None:
    """List loaded modules in /sys as well: a kernel without loadable modules has no /proc/modules to mount over."""
    listed = tree / "proc/modules"
    for line in listed.read_text().splitlines() if listed.is_file() else []:
        state = tree / "sys/module" / line.split()[0] / "initstate"
        state.parent.mkdir(parents=True, exist_ok=True)
        state.write_text("live\n")


def _libraries(tree: Path, root: Path) -> None:
    """Lay out the names of libraries and firmware, which say what version is installed."""
    directory = root / LIBRARIES.relative_to("/")
    directory.mkdir(parents=True)
    for pattern in ("libnvidia-ml.so.*", "libcuda.so.*"):
        for file in tree.rglob(pattern):
            if file.is_file() and not file.is_symlink():
                (directory / file.name).write_text(_NO_LIBRARY)
                (directory / pattern.replace("*", "1")).symlink_to(file.name)
    firmware = Path("lib/firmware/nvidia")
    if (tree / firmware).is_dir():
        shutil.copytree(tree / firmware, root / "usr" / firmware)


def _running(commands: Mapping[str, Any]) -> list[str]:
    """Return the driver's daemons that run on the other machine."""
    shown = [answer.get("stdout", "") for line, answer in commands.items() if line.startswith("systemctl show")]
    blocks = [
        dict(line.partition("=")[::2] for line in block.splitlines()) for block in "\n\n".join(shown).split("\n\n")
    ]
    return [block["Id"] for block in blocks if block.get("ActiveState") == "active" and "Id" in block]
