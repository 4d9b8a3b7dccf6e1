"""What is asked of devices, and what devices can give, both in parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vllm_fleet.plan.host import Device
from vllm_fleet.plan.placement.parts import STEP, WHOLE, floored, parts, rounded_up
from vllm_fleet.plan.placement.types import Request

IMPOSSIBLE = 2 * WHOLE
# Devices of one server by position, in the order of its ranks.
Group = tuple[int, ...]


@dataclass(frozen=True)
class Limits:
    """Parts of each device, by position, that servers may take.

    ``together`` is for all servers of a device, ``alone`` for one whose share the plan chooses, ``whole`` for the only
    server of a device if its share is declared: that one is the operator's own risk.
    """

    together: tuple[int, ...]
    alone: tuple[int, ...]
    whole: tuple[int, ...]

    @classmethod
    def of(cls, devices: Sequence[Device], limit: float, alone: float) -> Limits:
        """Return the limits of devices, less what other processes hold there."""
        held = [-(-device.held_bytes * WHOLE // max(device.memory_bytes, 1)) for device in devices]
        together = tuple(max(parts(limit) - part, 0) for part in held)
        return cls(
            together=together,
            alone=tuple(min(parts(alone), room) for room in together),
            whole=tuple(max(WHOLE - part, 0) for part in held),
        )


@dataclass(frozen=True)
class Task:
    """A request in parts: the least ``amounts`` it takes of each device, by position.

    ``declared`` says that its share is given, ``sealed`` that nothing is known of its memory, so that it can share no
    device. ``running`` is the share it runs with and might keep, 0 for none.
    """

    request: Request
    amounts: tuple[int, ...]
    declared: bool
    sealed: bool
    running: int = 0

    @property
    def name(self) -> str:
        """The server's name."""
        return self.request.name

    def amount(self, group: Sequence[int]) -> int:
        """Return what it takes of each device of a group: vLLM is told one fraction for all ranks."""
        return max([self.amounts[position] for position in group])


def task_of(request: Request, devices: Sequence[Device], limits: Limits, stays: bool = False) -> Task:
    """Return the task of a request; ``stays`` says that it is to remain on its current devices undeclared."""
    stays = stays or (request.devices is not None and request.devices == request.current_devices)
    running = parts(request.current_share) if stays and request.current_share is not None else 0
    share = None if request.share is None else parts(request.share)
    if share is None and request.least is None and running:
        # It runs, so this share has been enough.
        share = running
    if share is not None:
        amounts = _of_share(request, share, devices)
    elif request.least is None:
        amounts = [floored(room) or IMPOSSIBLE for room in limits.alone]
    else:
        amounts = [max(rounded_up(request.least, device.memory_bytes), STEP) for device in devices]
    if request.ranks > 1:
        # A process sees one MIG instance at most, and NCCL joins none.
        amounts = [IMPOSSIBLE if device.mig else amount for amount, device in zip(amounts, devices, strict=True)]
    return Task(request, tuple(amounts), share is not None, share is None and request.least is None, running)


def _of_share(request: Request, share: int, devices: Sequence[Device]) -> list[int]:
    """Return a given share for each device on which it holds what is needed, or for all if it does so on too few.

    Whether a share is large enough is then judged where the server is placed, with the numbers of that device.
    """
    enough = [(request.least or 0) * WHOLE <= share * device.memory_bytes for device in devices]
    return [share if fits or sum(enough) < request.ranks else IMPOSSIBLE for fits in enough]
