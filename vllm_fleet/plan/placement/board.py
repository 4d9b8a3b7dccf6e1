"""What servers take of devices while they are being placed."""

from __future__ import annotations

from collections.abc import Sequence

from vllm_fleet.plan.placement.task import Limits, Task


class Board:
    """The devices by position, and what has been put on each. All amounts are parts of a device.

    ``kept`` counts servers with the share they run with, where ``used`` counts the least they need: as long as the
    former fits, nobody's share changes.
    """

    def __init__(self, limits: Limits, memory: Sequence[int]) -> None:
        size = range(len(memory))
        self.limits = limits
        self.memory = memory
        self.used = [0 for _ in size]
        self.kept = [0 for _ in size]
        self.servers = [0 for _ in size]
        self.llms = [0 for _ in size]
        self.running = [0 for _ in size]
        self.sealed = [False for _ in size]

    def room(self, task: Task, position: int) -> int:
        """Return the most that a task could take of a device now."""
        if self.sealed[position] or (task.sealed and self.servers[position]):
            return 0
        if not self.servers[position]:
            return self.limits.whole[position] if task.declared else self.limits.alone[position]
        room = self.limits.together[position] - self.used[position]
        return room if task.declared else min(room, self.limits.alone[position])

    def fits(self, task: Task, group: Sequence[int]) -> bool:
        """Return whether a task may be put on these devices."""
        amount = task.amount(group)
        return all(amount <= self.room(task, position) for position in group)

    def put(self, task: Task, group: Sequence[int], sign: int = 1) -> None:
        """Put a task on devices; a ``sign`` of -1 takes it away."""
        amount = task.amount(group)
        for position in group:
            self.used[position] += sign * amount
            self.kept[position] += sign * max(task.running, amount)
            self.servers[position] += sign
            self.llms[position] += sign * task.request.elastic
            self.running[position] += sign * (task.running > 0)
            if task.sealed:
                self.sealed[position] = sign > 0

    def disturbs(self, task: Task, group: Sequence[int]) -> int:
        """Return how many running servers would have to start again with a smaller share for this task."""
        amount = task.amount(group)
        return sum(
            self.running[position]
            for position in group
            if self.kept[position] + amount > self.limits.together[position]
        )

    def left(self, task: Task, group: Sequence[int]) -> int:
        """Return the bytes left on the fullest of these devices once the task is there."""
        amount = task.amount(group)
        return min(
            (self.limits.together[position] - self.used[position] - amount) * self.memory[position]
            for position in group
        )
