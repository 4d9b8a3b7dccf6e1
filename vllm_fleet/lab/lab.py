"""A whole lab: what `scripts/lab` does, as functions."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from vllm_fleet.errors import FleetError
from vllm_fleet.lab import carry, host, image, network, preflight, runner, state
from vllm_fleet.lab.lock import locked
from vllm_fleet.lab.progress import say, step
from vllm_fleet.lab.settings import Settings, check_host_name

DEFAULT_HOST = "lab-1"
REBOOT_SECONDS = 120.0


@dataclass(frozen=True)
class HostStatus:
    """A host and whether it is "running" (answers ssh), "starting" (or hangs) or "stopped"."""

    host: state.Host
    condition: str


def up(settings: Settings, names: list[str]) -> list[state.Host]:
    """Make and start the named hosts; without names all that exist, or one.

    Raises:
        FleetError: the machine cannot hold a lab, or a host does not come up.
    """
    preflight.check(settings)
    for name in names:
        check_host_name(name)
    with _lab(settings):
        known = {made.name: made for made in state.read_hosts(settings)}
        wanted = names or list(known) or [DEFAULT_HOST]
        _clear_unfinished(settings)
        subnet = network.ensure(settings)
        host.ensure_key(settings)
        missing = [name for name in dict.fromkeys(wanted) if name not in known]
        if missing:
            base = _image(settings)
            luggage = carry.pack(os.environ, Path.home())
            for name in missing:
                address = state.next_address(subnet, {made.address for made in known.values()})
                known[name] = host.make(settings, name, address, base, subnet, luggage)
        host.write_known_hosts(settings)
        chosen = [known[name] for name in dict.fromkeys(wanted)]
        stopped = [one for one in chosen if not (runner.is_running(settings.machine(one.name)) and host.answers(one))]
        if stopped:
            with step(f"starting {', '.join(one.name for one in stopped)}"):
                for one in stopped:
                    host.start(settings, one)
                for one in stopped:
                    host.wait(settings, one)
    for one in chosen:
        say(f"{one.name} is up at {one.address}")
    return chosen


def down(settings: Settings, names: list[str]) -> None:
    """Remove the named hosts, or without names the whole lab with its network and keys.

    Raises:
        FleetError: a named host does not exist.
    """
    if not preflight.is_root():
        raise FleetError("A lab can only be taken down by root. Run: sudo scripts/lab down")
    with _lab(settings):
        existing = [path.name for path in settings.hosts.glob("*")] if settings.hosts.is_dir() else []
        if unknown := sorted(set(names) - set(existing)):
            raise FleetError(
                f"The lab '{settings.prefix}' has no host {', '.join(unknown)}; it has: {', '.join(sorted(existing)) or 'none'}."
            )
        for name in names or existing:
            with step(f"removing {name}"):
                host.discard(settings, name)
        if names and len(names) < len(existing):
            host.write_known_hosts(settings)
            return
        network.remove(settings)
        if settings.directory.is_dir():
            shutil.rmtree(settings.directory)
        with suppress(OSError):  # another lab's state is there, or somebody mounted this directory
            settings.state.rmdir()


def purge(settings: Settings) -> None:
    """Remove base images and downloads that no other lab uses.

    Raises:
        FleetError: another lab uses them.
    """
    with locked("image"):
        others = sorted(path.parts[-3] for path in settings.state.glob("*/hosts/*"))
        if others:
            raise FleetError(
                f"The caches in {settings.cache} are in use by the lab '{others[0]}'. Run: scripts/lab --prefix {others[0]} down"
            )
        for directory in (settings.images, settings.downloads):
            if directory.is_dir():
                shutil.rmtree(directory)
        with suppress(OSError):
            settings.cache.rmdir()


def status(settings: Settings) -> list[HostStatus]:
    """Return all hosts of the lab and how they are."""
    found = []
    for one in state.read_hosts(settings):
        running = runner.is_running(settings.machine(one.name))
        found.append(HostStatus(one, "stopped" if not running else "running" if host.answers(one) else "starting"))
    return found


def find(settings: Settings, name: str) -> state.Host:
    """Return a host by name.

    Raises:
        FleetError: there is none.
    """
    hosts = {one.name: one for one in state.read_hosts(settings)}
    if name not in hosts:
        raise FleetError(
            f"The lab '{settings.prefix}' has no host {name}; it has: {', '.join(hosts) or 'none'}. Run: scripts/lab --prefix {settings.prefix} up {name}"
        )
    return hosts[name]


def reboot(settings: Settings, name: str) -> None:
    """Reboot a host and wait until it answers again.

    Raises:
        FleetError: it does not come back.
    """
    one = find(settings, name)
    before = host.boot_id(settings, one)
    if not before:
        raise FleetError(f"{name} does not answer. Run: scripts/lab --prefix {settings.prefix} up {name}")
    with step(f"rebooting {name}"):
        host.remote(settings, one, ["systemctl", "reboot"])
        deadline = time.monotonic() + REBOOT_SECONDS
        while (now := host.boot_id(settings, one)) in ("", before):
            if time.monotonic() > deadline:
                raise FleetError(
                    f"{name} did not come back within {REBOOT_SECONDS:.0f} s of its reboot. Run: scripts/lab --prefix {settings.prefix} up"
                )
            time.sleep(0.3)
        assert now != before


@contextmanager
def _lab(settings: Settings) -> Iterator[None]:
    """Be the only one to change this lab."""
    with locked(
        settings.prefix, lambda: say(f"waiting for another scripts/lab that works on the lab '{settings.prefix}'")
    ):
        yield


def _clear_unfinished(settings: Settings) -> None:
    """Remove hosts whose making or removal was interrupted."""
    for directory in settings.hosts.glob("*"):
        if not (directory / "host.json").exists():
            say(f"clearing the unfinished host {directory.name}")
            host.discard(settings, directory.name)


def _image(settings: Settings) -> Path:
    """Return the base image, made while a step shows it if necessary."""
    command = image.current(settings)
    if command.is_dir():
        return command
    with step("making the base image (Debian; once, about half a minute)") as detail:
        return image.ensure(settings, detail)
