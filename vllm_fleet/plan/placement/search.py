"""Find devices for servers: the preferred ones first, and every other way before giving up.

Servers are placed one after the other, each on the best devices left for it; where that leaves a later one without
room, the search goes back and tries the next best. So it finds a placement whenever there is one. Devices that differ
in nothing are tried once, and a set of loads that was found to lead nowhere is never entered again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vllm_fleet.plan.placement.board import Board
from vllm_fleet.plan.placement.task import Group, Task
from vllm_fleet.plan.placement.topology import Topology

# Steps after which a search ends without an answer. Hosts of 8 devices and 10 servers take a few dozen.
MOST_STEPS = 50_000


class ExhaustedError(Exception):
    """The search has taken all the steps it is allowed."""


class Search:
    """A search on one host; ``packed`` says that encoders go beside LLMs, so that whole devices stay free."""

    def __init__(self, topology: Topology, packed: bool) -> None:
        self.topology = topology
        self.packed = packed
        self.steps = MOST_STEPS
        self.kinds: list[int] = []

    def run(self, board: Board, tasks: Sequence[Task]) -> dict[str, Group] | None:
        """Return devices for all tasks, beside what is on the board already, or None if there are none."""
        ordered = sorted(tasks, key=_order)
        self.kinds = _kinds(board, ordered)
        # Bytes that the tasks from each position on take at least.
        volumes = [0]
        for task in reversed(ordered):
            volumes.append(volumes[-1] + task.request.ranks * _least_bytes(task, board))
        volumes.reverse()
        found: dict[str, Group] = {}
        return found if self._place(board, ordered, volumes, found, set()) else None

    def _place(
        self,
        board: Board,
        tasks: Sequence[Task],
        volumes: Sequence[int],
        found: dict[str, Group],
        dead_ends: set[tuple[object, ...]],
    ) -> bool:
        if len(found) == len(tasks):
            return True
        state = (len(found), *sorted(zip(self.kinds, board.used, board.sealed, strict=True)))
        if state in dead_ends or volumes[len(found)] > _free_bytes(board):
            return False
        task = tasks[len(found)]
        for group in self.candidates(board, task):
            self.steps -= 1
            if self.steps < 0:
                raise ExhaustedError
            board.put(task, group)
            found[task.name] = group
            done = self._place(board, tasks, volumes, found, dead_ends)
            board.put(task, group, -1)
            if done:
                return True
            del found[task.name]
        dead_ends.add(state)
        return False

    def candidates(self, board: Board, task: Task) -> list[Group]:
        """Return the groups of devices a task may be put on, the best first, equal ones once."""
        alike: dict[tuple[object, ...], list[int]] = {}
        for position, amount in enumerate(task.amounts):
            if amount <= board.room(task, position):
                alike.setdefault(self._kind(board, task, position), []).append(position)
        groups = [group for group in _groups(list(alike.values()), task.request.ranks) if board.fits(task, group)]
        return sorted(groups, key=lambda group: self._preference(board, task, group))

    def _kind(self, board: Board, task: Task, position: int) -> tuple[object, ...]:
        return (
            self.kinds[position],
            self.topology.domains[position],
            self.topology.nodes[position],
            board.used[position],
            board.kept[position],
            board.servers[position],
            board.llms[position],
        )

    def _preference(self, board: Board, task: Task, group: Group) -> tuple[object, ...]:
        closeness = self.topology.closeness(group)
        disturbed = board.disturbs(task, group)
        left = board.left(task, group)
        if task.request.elastic:
            # A device of its own, then the closest devices, then those with most memory; large islands stay whole.
            llms = sum(board.llms[position] for position in group)
            broken = sum(self._unused_beside(board, group))
            return (llms, closeness, disturbed, -left, broken, group)
        # As close as can be, then beside what is there already, where most memory is left.
        unused = sum(not board.servers[position] for position in group) if self.packed else 0
        return (closeness, disturbed, unused, -left, group)

    def _unused_beside(self, board: Board, group: Group) -> Iterator[int]:
        """Yield 1 for each device without an LLM that is as close to the group as its own devices are."""
        domains = self.topology.domains
        chosen = {domains[position] for position in group}
        for position, domain in enumerate(domains):
            if domain in chosen and position not in group and not board.llms[position]:
                yield 1


def _kinds(board: Board, tasks: Sequence[Task]) -> list[int]:
    """Return a number for each device, the same for those that start out alike for every task."""
    looks = [
        (board.memory[position], board.limits.together[position], *[task.amounts[position] for task in tasks])
        for position in range(len(board.memory))
    ]
    return [looks.index(look) for look in looks]


def _order(task: Task) -> tuple[object, ...]:
    """LLMs before encoders, many ranks before few, those that can share nothing first, then by size and name.

    The size is in hundredths of a device, as shares are: a slightly different estimate changes no order.
    """
    return (
        not task.request.elastic,
        -task.request.ranks,
        not task.sealed,
        -min(task.amounts, default=0),
        task.name,
    )


def _groups(alike: Sequence[Sequence[int]], size: int) -> Iterator[Group]:
    """Yield groups of so many positions; of positions that are alike, the first."""
    if not size:
        yield ()
        return
    for number, positions in enumerate(alike):
        # Take at least one of these, and the rest of what follows.
        for count in range(1, min(size, len(positions)) + 1):
            for rest in _groups(alike[number + 1 :], size - count):
                yield tuple(sorted((*positions[:count], *rest)))


def _least_bytes(task: Task, board: Board) -> int:
    if task.sealed or task.declared:
        # These may take more than the limit that free bytes are counted by.
        return 0
    return min((amount * memory for amount, memory in zip(task.amounts, board.memory, strict=True)), default=0)


def _free_bytes(board: Board) -> int:
    return sum(
        max(together - used, 0) * memory
        for together, used, memory, sealed in zip(
            board.limits.together, board.used, board.memory, board.sealed, strict=True
        )
        if not sealed
    )
