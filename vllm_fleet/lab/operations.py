"""A whole lab: what `scripts/lab` does, as functions."""

from __future__ import annotations

import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from vllm_fleet.errors import FleetError
from vllm_fleet.lab import carry, fake_gpus, firewall, host, image, network, preflight, runner, state, wanted
from vllm_fleet.lab.lock import locked
from vllm_fleet.lab.progress import say, step
from vllm_fleet.lab.settings import DOWNLOAD_PARTS, Settings, check_host_name, is_root

REBOOT_SECONDS = 180.0


@dataclass(frozen=True)
class HostStatus:
    """A host and whether it is "running" (answers ssh), "silent" (starting, rebooting or stuck) or "stopped"."""

    host: state.Host
    condition: str


def up(settings: Settings, names: list[str], fake: str = "", group: str = "") -> list[state.Host]:
    """Make and start the named hosts; without names all that exist (of the group, if one is given), or one.

    Args:
        settings: which lab.
        names: its hosts.
        fake: whose GPUs the hosts pretend to have, "" for none where a host is made, and as it is where it exists.
        group: their group of the inventory, "" for gpu_hosts where a host is made, and as it is where it exists.

    Raises:
        FleetError: the machine cannot hold a lab, or a host does not come up.
    """
    group = wanted.check_request(group, fake)
    if fake:
        fake = fake if fake in fake_gpus.known() else str(fake_gpus.resolve(fake))
    preflight.check(settings)
    for name in names:
        check_host_name(name)
    with _lab(settings):
        known = {made.name: made for made in state.read_hosts(settings)}
        names = wanted.names_of(names, known.values(), group)
        wanted.check_made(settings, [known[name] for name in names if name in known], group, fake)
        _clear_unfinished(settings)
        missing = [name for name in names if name not in known]
        if missing:
            preflight.check_space(settings)
        base = _image(settings) if missing else None
        subnet = network.ensure(settings)
        for chain in firewall.open_for(settings):
            say(f"the firewall ({chain}) drops what is forwarded; let {settings.bridge} through until 'lab down'")
        host.ensure_key(settings)
        if base:
            luggage = carry.pack(os.environ, Path.home())
            for warning in luggage.warnings:
                say(warning)
            for name in missing:
                address = state.next_address(subnet, {made.address for made in known.values()})
                machine_id, member = secrets.token_hex(16), group or state.GPU_HOSTS
                new = state.Host(name, address, machine_id, str(base), luggage.binds, fake, member)
                known[name] = host.make(settings, new, subnet, luggage)
        host.write_known_hosts(settings)
        chosen = [known[name] for name in names]
        stopped = [one for one in chosen if not host.is_up(settings, one)]
        if stopped:
            with step(f"starting {', '.join(one.name for one in stopped)}"):
                for one in stopped:
                    host.start(settings, one)
                for one in stopped:
                    host.wait(settings, one)
    for one in chosen:
        pretends = f", pretending to have the GPUs of {one.fake_gpus}" if one.fake_gpus else ""
        belongs = f", in the group {one.group}" if one.group != state.GPU_HOSTS else ""
        say(f"{one.name} is up at {one.address}{belongs}{pretends}")
    return chosen


def down(settings: Settings, names: list[str]) -> None:
    """Remove the named hosts, or without names the whole lab with its network and keys.

    Raises:
        FleetError: a named host does not exist.
    """
    require_root(settings)
    with _lab(settings):
        existing = [path.name for path in settings.hosts.glob("*")] if settings.hosts.is_dir() else []
        if unknown := sorted(set(names) - set(existing)):
            has = ", ".join(sorted(existing)) or "none"
            raise FleetError(f"The lab '{settings.prefix}' has no host {', '.join(unknown)}; it has: {has}.")
        for name in sorted(set(names) or existing):
            with step(f"removing {name}"):
                host.discard(settings, name)
        if names and set(names) != set(existing):
            host.write_known_hosts(settings)
            return
        firewall.close_for(settings)
        network.remove(settings)
        if settings.directory.is_dir():
            shutil.rmtree(settings.directory)
        with suppress(OSError):  # another lab's state is there, or somebody mounted this directory
            settings.state.rmdir()
    say(f"the lab '{settings.prefix}' is down")


def purge(settings: Settings) -> None:
    """Remove base images, downloads and the tests' environments.

    Raises:
        FleetError: another lab uses them.
    """
    with locked("image"):
        if image.remove_unused(settings):
            raise FleetError(f"The caches in {settings.cache} are in use by another lab. Take it down first.")
        for part in DOWNLOAD_PARTS:
            shutil.rmtree(settings.downloads / part, ignore_errors=True)
        shutil.rmtree(settings.environments, ignore_errors=True)
        with suppress(OSError):  # somebody else's files are there
            settings.downloads.rmdir()
            settings.images.rmdir()
            settings.cache.rmdir()


def status(settings: Settings) -> list[HostStatus]:
    """Return all hosts of the lab and how they are."""
    require_root(settings)
    found = []
    for one in state.read_hosts(settings):
        running = runner.is_running(settings.machine(one.name))
        found.append(HostStatus(one, "stopped" if not running else "running" if host.answers(one) else "silent"))
    return found


def find(settings: Settings, name: str) -> state.Host:
    """Return a host by name.

    Raises:
        FleetError: there is none.
    """
    require_root(settings)
    hosts = {one.name: one for one in state.read_hosts(settings)}
    if name not in hosts:
        has = ", ".join(hosts) or "none"
        command = settings.command(wanted.up_words(name, wanted.likely_group(name), ""))
        raise FleetError(f"The lab '{settings.prefix}' has no host {name}; it has: {has}. Run: {command}")
    return hosts[name]


def reboot(settings: Settings, name: str) -> None:
    """Reboot a host and wait until it answers again.

    Raises:
        FleetError: it does not come back.
    """
    one = find(settings, name)
    before = host.boot_time(settings, one)
    if not before:
        raise FleetError(f"{name} does not answer. Run: {settings.command(f'up {name}')}")
    with step(f"rebooting {name}"):
        host.remote(settings, one, ["systemctl", "reboot"])
        deadline = time.monotonic() + REBOOT_SECONDS
        while host.boot_time(settings, one) in ("", before):
            if time.monotonic() > deadline:
                raise FleetError(
                    f"{name} did not come back within {REBOOT_SECONDS:.0f} s. Run: {settings.command(f'up {name}')}"
                )
            time.sleep(0.3)


def require_root(settings: Settings) -> None:
    """Raise unless this is root, who alone can read a lab's keys.

    Raises:
        FleetError: it is not.
    """
    if not is_root():
        raise FleetError(f"Only root can use the lab '{settings.prefix}'. Run the same command with sudo.")


@contextmanager
def _lab(settings: Settings) -> Iterator[None]:
    """Be the only one to change this lab."""
    waiting = f"waiting for another scripts/lab that works on the lab '{settings.prefix}'"
    with locked(f"of-{settings.prefix}", lambda: say(waiting)):
        state.check_directory(settings)
        yield


def _clear_unfinished(settings: Settings) -> None:
    """Remove hosts whose making or removal was interrupted."""
    for directory in settings.hosts.glob("*"):
        if not (directory / "host.json").exists():
            say(f"clearing the unfinished host {directory.name}")
            host.discard(settings, directory.name)


def _image(settings: Settings) -> Path:
    """Return the base image, made while a step shows it if necessary."""
    current = image.current(settings)
    if current.is_dir():
        return current
    with step("making the base image (Debian; once, about half a minute)") as detail:
        return image.ensure(settings, detail)
