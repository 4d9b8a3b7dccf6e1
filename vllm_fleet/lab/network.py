"""A lab's own network: a bridge with an unused subnet, masquerading, and forwarding."""

from __future__ import annotations

import json
import shutil
import zlib
from ipaddress import IPv4Network
from pathlib import Path

from vllm_fleet.errors import FleetError
from vllm_fleet.lab import runner, state
from vllm_fleet.lab.lock import locked
from vllm_fleet.lab.process import run, succeeds
from vllm_fleet.lab.settings import RUN_DIRECTORY, Settings

FORWARD = Path("/proc/sys/net/ipv4/ip_forward")
# Docker (172.17-31), libvirt (192.168.122), Kubernetes (10.96, 10.244) and home routers use other ranges by default.
RANGE = IPv4Network("10.213.0.0/16")
LABS = RUN_DIRECTORY / "labs"
FORWARD_BEFORE = RUN_DIRECTORY / "ip_forward"
NETWORKD = Path("/run/systemd/network")


def candidates(prefix: str) -> list[IPv4Network]:
    """Return the subnets a lab may take, the likeliest free one of this prefix first."""
    subnets = list(RANGE.subnets(new_prefix=24))
    start = zlib.crc32(prefix.encode()) % len(subnets)
    return subnets[start:] + subnets[:start]


def choose(prefix: str, in_use: list[IPv4Network]) -> IPv4Network:
    """Return the first candidate that overlaps nothing in use.

    Raises:
        FleetError: all of them do.
    """
    for subnet in candidates(prefix):
        if not any(subnet.overlaps(other) for other in in_use):
            return subnet
    raise FleetError(
        f"Every /24 of {RANGE} is routed on this machine already, so a lab finds no subnet. "
        "Remove a lab with scripts/lab down."
    )


def routed(routes: str) -> list[IPv4Network]:
    """Return the destinations of `ip -json route show table all` without default routes."""
    found = []
    for route in json.loads(routes or "[]"):
        try:
            subnet = IPv4Network(route.get("dst", ""), strict=False)
        except ValueError:
            continue
        if subnet.prefixlen > 1:
            found.append(subnet)
    return found


def is_up(settings: Settings) -> bool:
    """Whether the lab's bridge is there."""
    return Path("/sys/class/net", settings.bridge).exists()


def ensure(settings: Settings) -> IPv4Network:
    """Make what is missing of the lab's network and return its subnet.

    Raises:
        FleetError: the bridge's name belongs to somebody else, or no subnet is free.
    """
    with locked("network"):
        subnet = state.read_network(settings)
        if is_up(settings):
            if subnet is None or _owner(settings) != str(settings.directory):
                raise FleetError(
                    f"The network interface {settings.bridge} is there already, and not of the lab whose state is in "
                    f"{settings.directory} (but of {_owner(settings) or 'something else'}). Use another --prefix."
                )
        else:
            in_use = routed(run(["ip", "-4", "-json", "route", "show", "table", "all"]))
            if subnet is None or any(subnet.overlaps(other) for other in in_use):
                if state.read_hosts(settings):
                    raise FleetError(
                        f"The lab's subnet {subnet} is used by something else on this machine now. "
                        f"Make the lab anew: {settings.command('down')}, then {settings.command('up')}."
                    )
                subnet = choose(settings.prefix, in_use)
                state.write_network(settings, subnet)
            _register(settings)
            _remove_table(settings)
            _add_bridge(settings, subnet)
        _forward()
        _masquerade(settings, subnet)
    return subnet


def remove(settings: Settings) -> None:
    """Take away bridge, masquerading and forwarding, as far as they are this lab's."""
    with locked("network"):
        if _owner(settings) != str(settings.directory):
            return
        if is_up(settings):
            run(["ip", "link", "delete", settings.bridge])
        _remove_table(settings)
        (NETWORKD / f"10-{settings.bridge}.network").unlink(missing_ok=True)
        (LABS / settings.prefix).unlink(missing_ok=True)
        if not [path for path in LABS.iterdir() if not path.name.startswith(".")]:
            _restore_forward()
            shutil.rmtree(RUN_DIRECTORY)


def _owner(settings: Settings) -> str:
    """The state directory of the lab that made this prefix's network since the machine started, "" if none."""
    try:
        return (LABS / settings.prefix).read_text().strip()
    except FileNotFoundError:
        return ""


def _register(settings: Settings) -> None:
    """Note whose network this is, before any part of it exists: what is left of an interrupted `up` has an owner."""
    if (owner := _owner(settings)) and owner != str(settings.directory):
        raise FleetError(
            f"A lab with the prefix '{settings.prefix}' is up already, with its state in {owner}. Use another --prefix."
        )
    state.write_atomically(LABS / settings.prefix, f"{settings.directory}\n")


def _add_bridge(settings: Settings, subnet: IPv4Network) -> None:
    """Claim the bridge's name and give it the subnet's first address."""
    if runner.systemd_is_init():
        # systemd-networkd with a catch-all file would take the address away.
        unmanaged = f"[Match]\nName={settings.bridge}\n\n[Link]\nUnmanaged=yes\n"
        state.write_atomically(NETWORKD / f"10-{settings.bridge}.network", unmanaged)
    run(["ip", "link", "add", "name", settings.bridge, "type", "bridge"])
    try:
        run(["ip", "address", "add", f"{subnet[1]}/{subnet.prefixlen}", "dev", settings.bridge])
        run(["ip", "link", "set", settings.bridge, "up"])
    except BaseException:
        succeeds(["ip", "link", "delete", settings.bridge])
        raise


def _masquerade(settings: Settings, subnet: IPv4Network) -> None:
    """Let hosts reach the outside under this machine's address."""
    if succeeds(["nft", "list", "table", "ip", settings.table]):
        return
    rules = f"""
create table ip {settings.table}
table ip {settings.table} {{
    chain postrouting {{
        type nat hook postrouting priority srcnat
        ip saddr {subnet} ip daddr != {subnet} masquerade
    }}
}}
"""
    run(["nft", "-f", "-"], stdin=rules)


def _remove_table(settings: Settings) -> None:
    """Remove the lab's nftables table, if there is one."""
    if succeeds(["nft", "list", "table", "ip", settings.table]):
        run(["nft", "delete", "table", "ip", settings.table])


def _forward() -> None:
    """Switch forwarding on, and remember for the last lab's end whether a lab was the first to want it."""
    if FORWARD.read_text().strip() == "1":
        return
    state.write_atomically(FORWARD_BEFORE, "0\n")
    FORWARD.write_text("1\n")


def _restore_forward() -> None:
    """Switch forwarding off again if a lab switched it on and nothing else can have come to need it."""
    others = json.loads(run(["ip", "-json", "link", "show", "type", "bridge"]) or "[]")
    if FORWARD_BEFORE.exists() and not [link for link in others if link] and not Path("/run/docker.sock").exists():
        FORWARD.write_text("0\n")
