"""Changes that let servers be placed; each is tried before it is named."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

from vllm_fleet.plan.placement.arrange import arrange, arrange_moving, stayers
from vllm_fleet.plan.placement.refusals import certain, reasons
from vllm_fleet.plan.placement.search import ExhaustedError
from vllm_fleet.plan.placement.site import Site
from vllm_fleet.plan.placement.types import Request
from vllm_fleet.plan.problems import Change, Problem

Remedy = tuple[Change, ...]
MOST_GPUS = 16
# Shares to try for a server of which nothing is known, the largest first.
TRIED_SHARES = tuple(number / 20 for number in range(18, 0, -1))


def with_remedies(problems: Sequence[Problem], requests: Sequence[Request], site: Site) -> list[Problem]:
    """Return problems with the alternatives that remove each: of each way the mildest that will do."""
    told = {problem.where for problem in problems}
    by_themselves = {problem.where for problem in certain(requests, site)}

    def helps(remedy: Remedy, where: str, alone: bool) -> bool:
        changed, on = applied(remedy, requests, site)
        # Other problems that are told may remain, but none may come instead of this one.
        left = {other.where for other in certain(changed, on)}
        if left:
            return where not in left and left <= told
        try:
            possible = arrange(changed, on) is not None
            return possible or (alone and where not in {other.where for other in reasons(changed, on)})
        except ExhaustedError:
            return False

    found = []
    for problem in problems:
        # What the servers lack together comes to light once none is impossible by itself; it is another matter.
        for alone in (False, True) if problem.where in by_themselves else (False,):
            ways = [filter(partial(helps, where=problem.where, alone=alone), w) for w in _ways(problem, requests, site)]
            remedies = tuple(remedy for way in ways if (remedy := next(way, None)) is not None)
            if remedies:
                break
        found.append(replace(problem, remedies=remedies))
    return found


def _ways(problem: Problem, requests: Sequence[Request], site: Site) -> Iterator[Iterator[Remedy]]:
    """Yield ways to help, each from the mildest change to the gravest."""
    concerned = [request for request in requests if _concerns(problem, request)]
    yield _moves(requests, site)
    yield _freed(concerned)
    yield _shares(concerned)
    if problem.code == "plan-placement":
        yield _fewer_ranks(concerned)
    yield _more_gpus(site)


def applied(remedy: Remedy, requests: Sequence[Request], site: Site) -> tuple[list[Request], Site]:
    """Return servers and host as they are after a remedy."""
    changed = {request.name: request for request in requests}
    for change in remedy:
        if change.server is None:
            site = site.with_count(change.value)
        elif change.key == "gpus":
            devices = None if change.value is None else tuple(change.value)
            changed[change.server] = replace(changed[change.server], devices=devices)
        elif change.key == "tensor_parallel_size":
            request = changed[change.server]
            # One rank takes no more than the ranks it stands for took together.
            least = None if request.least is None else request.least * request.ranks // change.value
            changed[change.server] = replace(request, ranks=change.value, least=least)
        else:
            changed[change.server] = replace(changed[change.server], share=change.value)
    return list(changed.values()), site


def _concerns(problem: Problem, request: Request) -> bool:
    if problem.where.startswith("GPU "):
        return request.devices is not None and int(problem.where.removeprefix("GPU ")) in request.devices
    return problem.where in ("host", f"server {request.name}")


def _moves(requests: Sequence[Request], site: Site) -> Iterator[Remedy]:
    """Yield the moves of running servers, declared, that make room: an operator has to ask for these."""
    staying = stayers(requests, site)
    placement = arrange_moving(requests, site) if staying else None
    if placement is not None:
        devices = {name: site.indices(group) for name, group in staying.items()}
        moved = [name for name, group in devices.items() if placement.devices[name] != group]
        yield tuple(Change(name, "gpus", list(placement.devices[name])) for name in moved)


def _shares(concerned: Sequence[Request]) -> Iterator[Remedy]:
    """Yield shares for servers of which nothing is known, smaller ones than are declared: for one, then for all."""
    unknown = [request for request in concerned if request.least is None]
    changes = [
        [Change(request.name, "gpu_memory_utilization", share) for request in unknown if share < (request.share or 1)]
        for share in TRIED_SHARES
    ]
    yield from ((change,) for at_once in changes for change in at_once)
    yield from (tuple(at_once) for at_once in changes if len(at_once) > 1)


def _freed(concerned: Sequence[Request]) -> Iterator[Remedy]:
    """Yield declared shares and devices to leave to the plan, first one of them, then all."""
    shares = [Change(r.name, "gpu_memory_utilization", None) for r in concerned if r.share is not None]
    devices = [Change(r.name, "gpus", None) for r in concerned if r.devices is not None]
    yield from ((change,) for change in (*devices, *shares))
    yield from (tuple(changes) for changes in (devices, shares, [*devices, *shares]) if len(changes) > 1)


def _fewer_ranks(concerned: Sequence[Request]) -> Iterator[Remedy]:
    """Yield smaller sizes of tensor parallelism, which divide whatever the present one does."""
    for request in concerned:
        freed = [Change(request.name, "gpus", None)] if request.devices is not None else []
        for ranks in range(request.ranks - 1, 0, -1):
            if request.ranks % ranks == 0:
                yield (Change(request.name, "tensor_parallel_size", ranks), *freed)


def _more_gpus(site: Site) -> Iterator[Remedy]:
    """Yield larger numbers of the GPUs there are."""
    if site.devices:
        yield from ((Change(None, "gpus", count),) for count in range(len(site.devices) + 1, MOST_GPUS + 1))
