"""Place all servers of a host, moving as few of the running ones as can be."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from itertools import chain, combinations

from vllm_fleet.plan.placement.board import Board
from vllm_fleet.plan.placement.parts import fraction, parts
from vllm_fleet.plan.placement.search import Search
from vllm_fleet.plan.placement.shares import divide
from vllm_fleet.plan.placement.site import Site
from vllm_fleet.plan.placement.task import Group, Task, task_of
from vllm_fleet.plan.placement.types import Placement, Request

# Up to so many servers are moved as few as possible.
MOST_COUNTED_MOVES = 3


def arrange(requests: Sequence[Request], site: Site) -> Placement | None:
    """Place all servers, or return None where there is no way.

    A server that runs stays where it is. It may move if it needs more than it has now, or cannot be there any more;
    no other server moves in its favour.
    """
    staying = stayers(requests, site)
    grown = [request for request in requests if request.name in staying and _has_grown(request, staying, site)]
    return _first(requests, site, staying, _subsets(grown))


def arrange_moving(requests: Sequence[Request], site: Site) -> Placement | None:
    """Place all servers as `arrange` does, but let any of them move, as few as possible."""
    staying = stayers(requests, site)
    if _attempt(requests, site, {}, _search(requests, site), content=staying.keys()) is None:
        return None
    return _first(requests, site, staying, _subsets([request for request in requests if request.name in staying]))


def stayers(requests: Iterable[Request], site: Site) -> dict[str, Group]:
    """Return the positions of servers that run and can be where they are, by name."""
    staying = {}
    for request in requests:
        if request.devices is not None or request.current_devices is None:
            continue
        group = site.positions(request.current_devices)
        task = task_of(request, site.devices, site.limits, stays=True)
        if group is not None and len(set(group)) == request.ranks and empty_board(site).fits(task, group):
            staying[request.name] = group
    return staying


def empty_board(site: Site) -> Board:
    """Return the devices with nothing on them."""
    return Board(site.limits, [device.memory_bytes for device in site.devices])


def _has_grown(request: Request, staying: dict[str, Group], site: Site) -> bool:
    if request.current_share is None:
        return False
    task = task_of(request, site.devices, site.limits, stays=True)
    return task.amount(staying[request.name]) > parts(request.current_share)


def _subsets(requests: Iterable[Request]) -> Iterator[tuple[str, ...]]:
    """Yield sets of servers to move: none, one (the one of least weight first), and so on; beyond a few all at once."""
    names = [request.name for request in sorted(requests, key=lambda r: (r.elastic, r.ranks, r.name))]
    sizes = range(min(len(names), MOST_COUNTED_MOVES) + 1)
    yield from chain.from_iterable(combinations(names, size) for size in sizes)
    if len(names) > MOST_COUNTED_MOVES:
        yield tuple(names)


def _first(
    requests: Sequence[Request], site: Site, staying: Mapping[str, Group], movers: Iterable[tuple[str, ...]]
) -> Placement | None:
    search = _search(requests, site)
    for moving in movers:
        stay = {name: group for name, group in staying.items() if name not in moving}
        placement = _attempt(requests, site, stay, search, content=stay.keys())
        if placement is not None:
            return placement
    return None


def _search(requests: Sequence[Request], site: Site) -> Search:
    return Search(site.topology, packed=any(request.elastic for request in requests))


def _attempt(
    requests: Sequence[Request], site: Site, stay: Mapping[str, Group], search: Search, content: Container[str]
) -> Placement | None:
    """Place servers beside those with declared devices and those that stay; ``content`` do with what they have now."""
    board = empty_board(site)
    tasks = [task_of(request, site.devices, site.limits, request.name in content) for request in requests]
    placed: dict[str, Group] = {}
    free: list[Task] = []
    for task in tasks:
        request = task.request
        group = stay.get(task.name) if request.devices is None else site.positions(request.devices)
        if group is None and request.devices is None:
            free.append(task)
        elif group is None or not board.fits(task, group):
            return None
        else:
            board.put(task, group)
            placed[task.name] = group
    found = search.run(board, free)
    if found is None:
        return None
    placed |= found
    shares = divide(tasks, placed, site.limits)
    return Placement(
        devices={task.name: site.indices(placed[task.name]) for task in tasks},
        shares={task.name: fraction(shares[task.name]) for task in tasks},
    )
