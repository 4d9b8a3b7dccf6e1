"""What a machine needs before it can make hosts, found in the first second and said in one sentence each."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from vllm_fleet.errors import FleetError
from vllm_fleet.lab.settings import Settings, is_root

# What must be there -> the Debian package that brings it.
PROGRAMS = {
    "mmdebstrap": "mmdebstrap",
    "systemd-nspawn": "systemd-container",
    "nft": "nftables",
    "ip": "iproute2",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
}
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
# What the base image and a bare host take; what is installed on it then comes on top.
SPACE = 2**30
MACHINE_ID = Path("/etc/machine-id")

_NAMESPACES = "unshare --mount --net --pid --fork --mount-proc true"
# Everything a lab does to the kernel, done in namespaces that vanish with the command. $1 is an empty directory.
_REHEARSAL = """
mount -t tmpfs tmpfs "$1"
mkdir "$1/lower" "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=$1/lower,upperdir=$1/upper,workdir=$1/work" "$1/root"
ip link add name rehearsal0 type bridge
nft add table ip rehearsal
"""


@dataclass(frozen=True)
class Finding:
    """One reason why no lab host can be made here, and the command that removes it ("" where there is none)."""

    problem: str
    command: str = ""

    def __str__(self) -> str:
        """As one line for the operator."""
        return f"{self.problem} Run: {self.command}" if self.command else self.problem


def missing_packages() -> list[str]:
    """Return the Debian packages a lab needs that this machine does not have."""
    missing = {package for program, package in PROGRAMS.items() if not shutil.which(program)}
    if not KEYRING.exists():
        missing.add("debian-archive-keyring")
    return sorted(missing)


def findings(settings: Settings) -> list[Finding]:
    """Return all reasons why no lab host can be made here; changes nothing, takes a few hundredths of a second."""
    if not is_root():
        return [Finding("Lab hosts can only be made by root. Run the same command with sudo.")]
    found = []
    if missing := missing_packages():
        packages = " ".join(missing)
        found.append(
            Finding(
                f"Debian packages are missing: {packages}.",
                f"apt-get update && apt-get install -y --no-install-recommends {packages}",
            )
        )
    if not MACHINE_ID.exists() or not MACHINE_ID.read_text().strip():
        found.append(Finding(f"{MACHINE_ID} is empty, which systemd-nspawn refuses.", "systemd-machine-id-setup"))
    refused = _kernel(rehearse=not missing)
    return found + (refused or _state_directory(settings.state))


def check(settings: Settings) -> None:
    """Raise if no lab host can be made on this machine.

    Raises:
        FleetError: one line per reason.
    """
    if found := findings(settings):
        raise FleetError("\n".join(map(str, found)))


def check_space(settings: Settings) -> None:
    """Raise if there is no room for another host.

    Raises:
        FleetError: a directory has less than SPACE left.
    """
    for directory, variable in ((settings.state, "VLLM_FLEET_LAB_STATE"), (settings.cache, "VLLM_FLEET_CACHE")):
        there = _existing(directory)
        if (free := shutil.disk_usage(there).free) < SPACE:
            raise FleetError(
                f"{there} has {free / 2**30:.1f} GiB left, too little for a lab host. "
                f"Make room there, or name a directory on another disk with {variable}."
            )


def _existing(directory: Path) -> Path:
    """The directory, or the nearest one above it that exists."""
    return next(path for path in (directory, *directory.parents) if path.exists())


def _kernel(*, rehearse: bool) -> list[Finding]:
    """Try namespaces, overlayfs, a bridge and nftables; without the packages only namespaces can be tried."""
    advice = (
        "A lab needs real root: a physical or virtual machine, or a container started with --privileged. "
        "Without one, use your own hosts: copy inventory/example."
    )
    denied = subprocess.run(_NAMESPACES.split(), capture_output=True, text=True, check=False)
    if denied.returncode:
        return [Finding(f"This machine allows no namespaces ({_last(denied.stderr)}). {advice}")]
    if not rehearse:
        return []
    with tempfile.TemporaryDirectory(prefix="vllm-fleet-") as directory:
        command = [*_NAMESPACES.split()[:-1], "sh", "-ec", _REHEARSAL, "sh", directory]
        denied = subprocess.run(command, capture_output=True, text=True, check=False)
    if denied.returncode:
        return [Finding(f"This machine's kernel refuses what a lab needs ({_last(denied.stderr)}). {advice}")]
    return []


def _state_directory(state: Path) -> list[Finding]:
    """Try whether the state directory's filesystem can hold an overlay's upper directory."""
    parent = _existing(state)
    with tempfile.TemporaryDirectory(prefix=".vllm-fleet-", dir=parent) as directory:
        for part in ("lower", "upper", "work", "root"):
            Path(directory, part).mkdir()
        options = "lowerdir=$1/lower,upperdir=$1/upper,workdir=$1/work"
        command = f'mount -t overlay overlay -o "{options}" "$1/root"'
        denied = subprocess.run(
            ["unshare", "--mount", "sh", "-ec", command, "sh", directory], capture_output=True, check=False
        )
    if denied.returncode == 0:
        return []
    return [
        Finding(
            f"The filesystem of {parent} cannot hold a lab's hosts (it is an overlay itself, as in a container): "
            f"mount a volume at {state}, name a directory elsewhere with VLLM_FLEET_LAB_STATE, or keep them in memory.",
            f"mkdir -p {state} && mount -t tmpfs -o size=20g tmpfs {state}",
        )
    ]


def _last(text: str) -> str:
    """The last line of a complaint."""
    return (text.strip().splitlines() or ["no message"])[-1]
