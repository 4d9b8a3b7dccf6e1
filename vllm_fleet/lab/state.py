"""What a lab remembers on disk: its network and its hosts."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from vllm_fleet.errors import FleetError
from vllm_fleet.lab.settings import Settings

GPU_HOSTS = "gpu_hosts"


@dataclass(frozen=True)
class Host:
    """One lab host.

    Attributes:
        name: also its hostname.
        address: IPv4 address on the lab's bridge.
        machine_id: 32 hexadecimal digits, as in /etc/machine-id.
        image: directory of the base image it was made from.
        binds: directories of this machine visible inside at the same path, read-only.
        fake_gpus: whose GPUs it pretends to have, "" for none.
        group: the group of the inventory that it is in.
    """

    name: str
    address: str
    machine_id: str
    image: str
    binds: tuple[str, ...] = ()
    fake_gpus: str = ""
    group: str = GPU_HOSTS


def write_atomically(path: Path, text: str, mode: int = 0o644) -> None:
    """Replace a file so that a reader sees the old or the new text, whatever happens in between."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text)
    temporary.chmod(mode)
    temporary.replace(path)


def check_directory(settings: Settings) -> None:
    """Refuse a state directory that holds something else: `down` would remove it.

    Raises:
        FleetError: it does.
    """
    directory = settings.directory
    entries = [path.name for path in directory.glob("[!.]*")]
    if entries and "network" not in entries:
        raise FleetError(
            f"{directory} is no lab's directory, it holds {entries[0]}. "
            "Use another --prefix, or name another place with VLLM_FLEET_LAB_STATE."
        )


def read_network(settings: Settings) -> IPv4Network | None:
    """Return the lab's subnet, None if it has none yet.

    Raises:
        FleetError: the file is damaged.
    """
    path = settings.directory / "network"
    try:
        return IPv4Network(path.read_text().strip())
    except FileNotFoundError:
        return None
    except ValueError:
        raise FleetError(f"{path} is damaged. Run: {settings.command('down')}") from None


def write_network(settings: Settings, network: IPv4Network) -> None:
    """Remember the lab's subnet."""
    write_atomically(settings.directory / "network", f"{network}\n")


def read_hosts(settings: Settings) -> list[Host]:
    """Return the lab's hosts in the order of their addresses; what was never finished is none."""
    hosts = []
    for file in settings.hosts.glob("*/host.json"):
        try:
            fields = json.loads(file.read_text())
            hosts.append(Host(**{**fields, "binds": tuple(fields["binds"])}))
        except (ValueError, TypeError, KeyError):
            raise FleetError(f"{file} is damaged. Run: {settings.command(f'down {file.parent.name}')}") from None
    return sorted(hosts, key=lambda host: IPv4Address(host.address))


def write_host(settings: Settings, host: Host) -> None:
    """Remember a host; from here on it counts as made."""
    write_atomically(settings.hosts / host.name / "host.json", json.dumps(asdict(host), indent=2) + "\n")


def next_address(network: IPv4Network, taken: set[str]) -> str:
    """Return the lowest free host address; .1 is the machine's own.

    Raises:
        FleetError: the subnet is full.
    """
    for address in list(network.hosts())[1:]:
        if str(address) not in taken:
            return str(address)
    raise FleetError(
        f"All addresses of the lab's network {network} are in use. Use a second lab: scripts/lab --prefix NAME up"
    )
