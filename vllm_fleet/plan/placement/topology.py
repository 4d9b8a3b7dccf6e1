"""How close devices are to one another, which is what the ranks of a tensor-parallel server pay for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vllm_fleet.plan.host import Device

# Closeness of a group, the best first: NVLink all the way, the PCI bus of one processor, the bus between processors.
NVLINK, NUMA_NODE, ACROSS = range(3)

Links = Mapping[tuple[int, int], str]


class Topology:
    """The devices of a host by position, and what joins them.

    An island is a set of devices that reach one another over NVLink, directly or through others of the set: NCCL's
    rings need no more. Where links and NUMA nodes are unknown, all devices count as one node.
    """

    def __init__(self, devices: Sequence[Device], links: Links | None) -> None:
        indices = [device.index for device in devices]
        self.known = links is not None
        self.islands = _joined(indices, [pair for pair, kind in (links or {}).items() if kind.startswith("NV")])
        within = [pair for pair, kind in (links or {}).items() if kind != "SYS"]
        by_link = _joined(indices, within) if links else [0] * len(indices)
        self.nodes = [
            f"NUMA node {device.numa_node}" if device.numa_node is not None else f"the processor of GPU {group}"
            for device, group in zip(devices, by_link, strict=True)
        ]
        self.island_sizes = [self.islands.count(island) for island in self.islands]
        # What a large group has to come from: an island, or a node where there is none.
        self.domains = [
            f"island {island}" if size > 1 else node
            for island, size, node in zip(self.islands, self.island_sizes, self.nodes, strict=True)
        ]

    def closeness(self, group: Sequence[int]) -> int:
        """Return how close the devices at these positions are."""
        if len({self.islands[position] for position in group}) == 1:
            return NVLINK
        return NUMA_NODE if len({self.nodes[position] for position in group}) == 1 else ACROSS


def _joined(indices: Sequence[int], pairs: Sequence[tuple[int, int]]) -> list[int]:
    """Return the smallest index of the connected set that each index belongs to."""
    root = {index: index for index in indices}
    for a, b in sorted(pairs):
        if a in root and b in root and root[a] != root[b]:
            low, high = sorted((root[a], root[b]))
            root = {index: low if group == high else group for index, group in root.items()}
    return [root[index] for index in indices]
