"""Which CPU cores each rank of each server computes on (CPU backend).

vLLM's automatic binding ignores what other servers use (vllm-project/vllm#43240), so that one of two servers
crawls; explicit, disjoint lists do not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def rank_cores(ranks: Mapping[str, int], cpus: Sequence[int]) -> dict[str, tuple[str, ...]]:
    """Return for each server one core list per rank, in the form of ``VLLM_CPU_OMP_THREADS_BIND``.

    Args:
        ranks: tensor parallel size per server name.
        cpus: the cores of the host.

    With at least one core per rank of all servers the lists are disjoint and shares are equal per rank. With
    fewer, every server divides all cores among its own ranks and the servers take turns.
    """
    cores = sorted(cpus)
    total = sum(ranks.values())
    if len(cores) < total:
        return {name: _split(cores, count) for name, count in ranks.items()}
    lists = iter(_split(cores, total))
    return {name: tuple(next(lists) for _ in range(count)) for name, count in ranks.items()}


def _split(cores: Sequence[int], parts: int) -> tuple[str, ...]:
    """Divide cores into ``parts`` lists as equal as can be; with too few cores some stand in several lists."""
    size, extra = divmod(len(cores), parts)
    if size == 0:
        return tuple(str(cores[part % len(cores)]) for part in range(parts))
    lists, start = [], 0
    for part in range(parts):
        end = start + size + (part < extra)
        lists.append(",".join(map(str, cores[start:end])))
        start = end
    return tuple(lists)
