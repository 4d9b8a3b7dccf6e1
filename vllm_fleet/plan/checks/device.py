"""Whether servers can run on the devices they may be placed on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from vllm_fleet.plan.checks.doubts import Capability, Doubt, doubts
from vllm_fleet.plan.declaration import ModelServer
from vllm_fleet.plan.flags import FlagCatalogue
from vllm_fleet.plan.host import Device
from vllm_fleet.plan.models.facts import ModelFacts
from vllm_fleet.plan.problems import Change, Problem
from vllm_fleet.plan.settings import Settings

CODE = "plan-gpu"
Remedy = tuple[Change, ...]


def check_device(
    server: ModelServer,
    facts: ModelFacts | None,
    devices: Sequence[Device],
    settings: Settings,
    flags: FlagCatalogue,
) -> list[Problem]:
    """Return what a server asks for that some device it may be placed on cannot do.

    Args:
        server: the server; without declared ``gpus`` it may be placed on any device, so all must do.
        facts: of its model, None where nothing is known.
        devices: of the host; one whose compute capability is not known gives no problem.
        settings: of the host.
        flags: those of the pinned vLLM.
    """
    found = _doubts(server, facts, devices)
    problems = []
    for doubt, about in found.items():
        remedies = [
            remedy
            for remedy in _candidates(server, facts, devices, doubt, list(found))
            if _helps(remedy, server, facts, devices, doubt)
        ]
        problems.append(_problem(server, doubt, about, remedies))
    if settings.backend == "cuda" and (allowed := _allowed(server, devices)) and all(one.mig for one in allowed):
        problems.append(_untried(server, flags))
    return problems


def _doubts(server: ModelServer, facts: ModelFacts | None, devices: Sequence[Device]) -> dict[Doubt, list[Device]]:
    """Return each doubt once, with the devices it is about."""
    alike: dict[Capability | None, list[Device]] = {}
    for device in _allowed(server, devices):
        alike.setdefault(device.compute_capability, []).append(device)
    found: dict[Doubt, list[Device]] = {}
    for capability, these in alike.items():
        for doubt in doubts(server, facts, capability):
            found.setdefault(doubt, []).extend(these)
    return found


def _allowed(server: ModelServer, devices: Sequence[Device]) -> list[Device]:
    return [device for device in devices if server.gpus is None or device.index in server.gpus]


def _candidates(
    server: ModelServer, facts: ModelFacts | None, devices: Sequence[Device], doubt: Doubt, found: Sequence[Doubt]
) -> Iterator[Remedy]:
    """Yield sets of changes that may remove a doubt, the mildest first."""
    yield from ((change,) for change in doubt.changes)
    if (gpus := _others(server, facts, devices, doubt)) is not None:
        yield (Change(server.name, "gpus", gpus),)
    errors = [one.changes[0] for one in found if one.severity == "error" and one.changes]
    if len(errors) > 1:
        yield tuple({change.key: change for change in errors}.values())


def _others(server: ModelServer, facts: ModelFacts | None, devices: Sequence[Device], doubt: Doubt) -> list[int] | None:
    """Return as many devices as the server needs that the doubt is not about, of one product if possible."""
    against = _doubts(replace(server, gpus=None), facts, devices)
    unfit = [one for other, about in against.items() if other == doubt or other.severity == "error" for one in about]
    fit = [one for one in devices if one not in unfit and not (one.mig and server.tensor_parallel_size > 1)]
    products = [[one.index for one in fit if one.name == name] for name in dict.fromkeys(one.name for one in fit)]
    groups = [*products, [one.index for one in fit]]
    return next(
        (group[: server.tensor_parallel_size] for group in groups if len(group) >= server.tensor_parallel_size), None
    )


def _helps(
    remedy: Remedy, server: ModelServer, facts: ModelFacts | None, devices: Sequence[Device], doubt: Doubt
) -> bool:
    """Whether the doubt, and every error of this kind, is gone once a remedy has been applied."""
    values: dict[str, Any] = {
        change.key: tuple(change.value) if change.key == "gpus" else change.value for change in remedy
    }
    left = _doubts(replace(server, **values), facts, devices)
    return doubt not in left and not any(one.severity == "error" for one in left)


def _problem(server: ModelServer, doubt: Doubt, about: Sequence[Device], remedies: Sequence[Remedy]) -> Problem:
    message = f"{doubt.message}; {_capabilities(about)}" if doubt.lacking else doubt.message
    if remedies:
        words = (" and ".join(_in_words(change, server) for change in remedy) for remedy in remedies)
        message += f". Declare {', or '.join(words)}"
    elif doubt.severity == "error":
        message += ". Use newer GPUs"
    return Problem(f"server {server.name}", message, CODE, doubt.severity, tuple(remedies))


def _capabilities(devices: Sequence[Device]) -> str:
    """Return devices with what they can do: GPU 0, 1 (Tesla T4) have 7.5."""
    kinds: dict[tuple[str, tuple[int, int]], list[str]] = {}
    for device in devices:
        kinds.setdefault((device.name, device.compute_capability or (0, 0)), []).append(str(device.index))
    return ", ".join(
        f"GPU {', '.join(indices)} ({name}) {'has' if len(indices) == 1 else 'have'} {major}.{minor}"
        for (name, (major, minor)), indices in kinds.items()
    )


def _in_words(change: Change, server: ModelServer) -> str:
    if change.key != "extra_args":
        return f"{change.key}: {change.value}"
    gone = [key for key in server.extra_args if key not in change.value]
    return f"extra_args without {gone[0]}" if gone else f"{list(change.value)[-1]}: true in extra_args"


def _untried(server: ModelServer, flags: FlagCatalogue) -> Problem:
    """Say what is not known of MIG: vLLM maps an instance's UUID to an index of NVML's (vllm/platforms/cuda.py)."""
    return Problem(
        f"server {server.name}",
        f"it is placed on a MIG instance, which vLLM {flags.version} does not test: it asks the driver about whole "
        "GPUs. Try the start before you rely on it (vllm-project/vllm#41776)",
        CODE,
        "warning",
    )
