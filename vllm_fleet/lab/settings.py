"""Names and places of one lab: everything it makes on this machine carries its prefix."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vllm_fleet.errors import FleetError

DEFAULT_PREFIX = "fleet"
DEFAULT_STATE = Path("/var/lib/vllm-fleet-lab")
DEFAULT_CACHE = Path("/var/cache/vllm-fleet")
DOWNLOAD_PARTS = ("uv", "pip", "apt")
RUN_DIRECTORY = Path("/run/vllm-fleet-lab")

# A network interface name has at most 15 characters; the bridge is called "<prefix>-br".
_PREFIX = re.compile(r"[a-z][a-z0-9]{0,11}")
_HOST = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")


@dataclass(frozen=True)
class Settings:
    """Where one lab lives.

    Attributes:
        prefix: the lab's name; labs with different prefixes do not see each other.
        state: directory that holds a directory per lab.
        cache: directory of base images, downloads and the tests' environments, shared by all labs.
    """

    prefix: str
    state: Path
    cache: Path

    @property
    def directory(self) -> Path:
        """This lab's own state."""
        return self.state / self.prefix

    @property
    def hosts(self) -> Path:
        """One directory per host."""
        return self.directory / "hosts"

    @property
    def images(self) -> Path:
        """Base images, one directory each."""
        return self.cache / "images"

    @property
    def downloads(self) -> Path:
        """Downloaded packages by DOWNLOAD_PARTS, which every host of every lab can write to."""
        return self.cache / "downloads"

    @property
    def environments(self) -> Path:
        """Python environments of clients that the tests run: tests/client_environments.py."""
        return self.cache / "environments"

    @property
    def key(self) -> Path:
        """The private key that opens every host of this lab."""
        return self.directory / "id_ed25519"

    @property
    def known_hosts(self) -> Path:
        """The host keys of this lab's hosts."""
        return self.directory / "known_hosts"

    @property
    def bridge(self) -> str:
        """Name of the lab's network bridge."""
        return f"{self.prefix}-br"

    @property
    def table(self) -> str:
        """Name of the lab's nftables table."""
        return f"{self.prefix}_lab"

    def command(self, words: str) -> str:
        """Return the command line that does something with this lab, for messages."""
        option = "" if self.prefix == DEFAULT_PREFIX else f"--prefix {self.prefix} "
        return f"scripts/lab {option}{words}"

    def machine(self, host: str) -> str:
        """Name of a host among everything that runs on this machine."""
        return f"{self.prefix}-{host}"


def from_environment(environment: Mapping[str, str], prefix: str | None = None) -> Settings:
    """Read the settings; `prefix` goes before VLLM_FLEET_LAB.

    Raises:
        FleetError: the prefix cannot be part of an interface name.
    """
    name = prefix or environment.get("VLLM_FLEET_LAB") or DEFAULT_PREFIX
    if not _PREFIX.fullmatch(name):
        raise FleetError(
            f"The lab prefix '{name}' cannot name a network bridge: "
            "use a lower-case letter, then up to 11 lower-case letters or digits."
        )
    return Settings(
        prefix=name,
        state=Path(environment.get("VLLM_FLEET_LAB_STATE") or DEFAULT_STATE).absolute(),
        cache=Path(environment.get("VLLM_FLEET_CACHE") or DEFAULT_CACHE).absolute(),
    )


def check_host_name(name: str) -> str:
    """Return `name` if it can be a host's name.

    Raises:
        FleetError: it cannot.
    """
    if not _HOST.fullmatch(name):
        raise FleetError(
            f"'{name}' cannot be a host name: use lower-case letters, digits and inner hyphens, at most 32."
        )
    return name


def is_root() -> bool:
    """Whether this process may do what a lab needs."""
    return os.geteuid() == 0
