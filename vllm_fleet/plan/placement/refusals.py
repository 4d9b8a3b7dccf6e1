"""Why servers cannot be placed, with the numbers of the devices concerned."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from vllm_fleet.plan.placement.arrange import arrange, arrange_moving, empty_board, stayers
from vllm_fleet.plan.placement.parts import WHOLE, fraction
from vllm_fleet.plan.placement.site import Site
from vllm_fleet.plan.placement.task import Task, task_of
from vllm_fleet.plan.placement.types import Request
from vllm_fleet.plan.placement.wording import gpus, offers
from vllm_fleet.plan.problems import Problem
from vllm_fleet.plan.sentences import counted, gib, listed


def reasons(requests: Sequence[Request], site: Site) -> list[Problem]:
    """Return the reasons why these servers have no placement."""
    return certain(requests, site) or _together(requests, site)


def certain(requests: Sequence[Request], site: Site) -> list[Problem]:
    """Return servers that are impossible by themselves, and devices that are declared for too many."""
    staying = stayers(requests, site)
    alone = {r.name: _by_itself(r, site) for r in requests if r.name not in staying}
    possible = [request for request in requests if alone.get(request.name) is None]
    return [*[problem for problem in alone.values() if problem is not None], *_overcommitted(possible, site)]


def _by_itself(request: Request, site: Site) -> Problem | None:
    """Return why a server could not even have the host to itself."""
    where = f"server {request.name}"
    choice = site.positions(request.devices or ()) or tuple(range(len(site.devices)))
    rank, task = (task_of(r, site.devices, site.limits) for r in (replace(request, ranks=1), request))
    room = [empty_board(site).room(task, position) for position in choice]
    # More GPUs help only if there is one that has room for a rank.
    if not site.devices or _enough(rank, choice, room):
        missing = _missing(request, choice, site)
        if missing is not None:
            return Problem(where, missing, "plan-placement")
        if _enough(task, choice, room):
            return None
    return Problem(where, f"{_need(task)}; {offers(site, choice, room)}", "plan-memory")


def _missing(request: Request, choice: Sequence[int], site: Site) -> str | None:
    """Say how many GPUs a server wants if there are not as many."""
    there = f"the host has {counted(len(site.devices), 'GPU') if site.devices else 'none'}"
    if request.devices is not None and site.positions(request.devices) is None:
        return f"wants {gpus(request.devices)}, {there}"
    if request.ranks > len(site.devices):
        return f"tensor_parallel_size {request.ranks} wants {counted(request.ranks, 'GPU')}, {there}"
    instances = [position for position in choice if site.devices[position].mig]
    if request.ranks > 1 and len(choice) - len(instances) < request.ranks:
        wants = f"tensor_parallel_size {request.ranks} wants {counted(request.ranks, 'whole GPU')}"
        return f"{wants}; MIG instances cannot be joined ({gpus(site.indices(instances))})"
    return None


def _enough(task: Task, positions: Sequence[int], room: Sequence[int]) -> bool:
    """Return whether some of these devices have room for all ranks of a task, which take the same part of each."""
    amounts = [task.amounts[position] for position in positions]
    return any(
        sum(other <= amount <= most for other, most in zip(amounts, room, strict=True)) >= task.request.ranks
        for amount in amounts
    )


def _need(task: Task) -> str:
    each = "" if task.request.ranks == 1 else f" on each of {counted(task.request.ranks, 'GPU')}"
    if task.sealed:
        return f"needs {counted(task.request.ranks, 'GPU')} to itself, as nothing is known of the memory of its model"
    if task.request.share is not None:
        return f"wants gpu_memory_utilization {task.request.share:g}{each}"
    return f"needs {gib(task.request.least or 0)}{each}"


def _overcommitted(requests: Sequence[Request], site: Site) -> Iterator[Problem]:
    """Yield the problems of devices that are declared for several servers, the same ones of several devices once."""
    tasks = [task_of(request, site.devices, site.limits) for request in requests if request.devices is not None]
    told = set()
    for position, device in enumerate(site.devices):
        here = [task for task in tasks if device.index in (task.request.devices or ())]
        names = tuple(task.name for task in here)
        found = list(_on_device(here, position, site)) if len(here) > 1 and names not in told else []
        if found:
            told.add(names)
            yield from found


def _on_device(tasks: Sequence[Task], position: int, site: Site) -> Iterator[Problem]:
    index = site.devices[position].index
    known = [task for task in tasks if not task.sealed]
    for task in [task for task in tasks if task.sealed]:
        others = listed([other.name for other in tasks if other is not task])
        message = f"{_need(task)}, but GPU {index} is declared for {others} as well"
        yield Problem(f"server {task.name}", message, "plan-placement")
    amounts = {task: task.amount(site.positions(task.request.devices or ()) or ()) for task in known}
    total, limit = sum(amounts.values()), site.limits.together[position]
    if len(known) > 1 and total > limit:
        shares = ", ".join(f"{task.name} {_of_device(task, amount)}" for task, amount in amounts.items())
        message = f"gpu_memory_utilization adds up to {fraction(total):g} ({shares})"
        yield Problem(f"GPU {index}", f"{message}; {offers(site, [position], [limit])}", "plan-placement")


def _of_device(task: Task, amount: int) -> str:
    if task.declared:
        return f"{fraction(amount):g}"
    return f"{fraction(amount):g} for the {gib(task.request.least or 0)} it needs"


def _together(requests: Sequence[Request], site: Site) -> list[Problem]:
    """Return why servers that are possible one by one are not possible together."""
    staying = stayers(requests, site)
    tasks = [task_of(request, site.devices, site.limits, request.name in staying) for request in requests]
    sealed = [task for task in tasks if task.sealed]
    if sealed and arrange([task.request for task in tasks if not task.sealed], site) is not None:
        return [
            Problem(f"server {task.name}", f"{_need(task)}, but the others leave none free", "plan-placement")
            for task in sealed
        ]
    if staying and arrange_moving(requests, site) is not None:
        for task in tasks:
            others = [request for request in requests if request.name != task.name]
            if task.name not in staying and arrange(others, site) is not None:
                message = f"{_need(task)}, for which there is room only if running servers move"
                return [Problem(f"server {task.name}", message, "plan-placement")]
    needs = "; ".join(f"{task.name} {_need(task)}" for task in sorted(tasks, key=_by_size))
    everything = offers(site, range(len(site.devices)), site.limits.together)
    return [Problem("host", f"the servers do not fit together: {needs}. {everything}", "plan-placement")]


def _by_size(task: Task) -> tuple[int, str]:
    return -task.request.ranks * min(min(task.amounts), WHOLE), task.name
