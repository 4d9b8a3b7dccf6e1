"""Which hosts `scripts/lab up` is about, and whether those that are there are what it is asked for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from vllm_fleet.errors import FleetError
from vllm_fleet.lab import state
from vllm_fleet.lab.settings import Settings

# Groups of the inventory, each with the name of the host that is made where none is named.
GROUPS = {state.GPU_HOSTS: "lab-1", "gateways": "gateway-1", "clients": "client-1"}


def check_request(group: str, fake: str) -> str:
    """Return the group that a request is about, "" for any: only hosts for GPUs can pretend to have them.

    Args:
        group: the group that was asked for, "" for none.
        fake: whose GPUs new hosts are to pretend to have, "" for none.

    Raises:
        FleetError: it is another group.
    """
    if fake and group not in ("", state.GPU_HOSTS):
        raise FleetError(f"Only hosts of the group {state.GPU_HOSTS} can have fake GPUs, not those of {group}.")
    return state.GPU_HOSTS if fake else group


def names_of(names: Sequence[str], known: Iterable[state.Host], group: str) -> list[str]:
    """Return the hosts that are named, else those there are, else the one that is made where there is none.

    Args:
        names: the hosts that are named.
        known: the lab's hosts.
        group: without names, only hosts of this group; "" for any.
    """
    there = [one.name for one in known if group in ("", one.group)]
    return list(dict.fromkeys(names or there or [GROUPS[group or state.GPU_HOSTS]]))


def check_made(settings: Settings, hosts: Iterable[state.Host], group: str, fake: str) -> None:
    """Refuse to make something else of a host that exists.

    Args:
        settings: which lab.
        hosts: those that exist.
        group: the group that was asked for, "" for none.
        fake: whose GPUs were asked for, "" for none.

    Raises:
        FleetError: a host is in another group, or has no fake GPUs, or others.
    """
    for one in hosts:
        if group not in ("", one.group):
            was = f"in the group {one.group}"
        elif fake not in ("", one.fake_gpus):
            was = f"with the fake GPUs of {one.fake_gpus}" if one.fake_gpus else "without fake GPUs"
        else:
            continue
        raise FleetError(
            f"{one.name} was made {was}. Make it anew: {settings.command(f'down {one.name}')}, "
            f"then {settings.command(up_words(one.name, group or one.group, fake))}"
        )


def likely_group(name: str) -> str:
    """Return the group that a host which is not there may be meant for, by its name: client-2 is called as client-1."""
    stems = {first.rpartition("-")[0]: group for group, first in GROUPS.items()}
    return stems.get(name.rpartition("-")[0], state.GPU_HOSTS)


def up_words(name: str, group: str, fake: str) -> str:
    """Return the words of scripts/lab that make a host, for messages."""
    options = [*(["--group", group] if group != state.GPU_HOSTS else []), *(["--fake-gpus", fake] if fake else [])]
    return " ".join(["up", *options, name])
