"""Numbers as people read them."""

from __future__ import annotations

from collections.abc import Sequence

from vllm_fleet.plan.sentences import GIB

# More names than these are not listed in a line.
MOST_NAMED = 4


def gib(size: int) -> str:
    """Return bytes in GiB without the unit: one decimal, two where one would say almost nothing.

    >>> gib(36 << 30), gib(300 << 20)
    ('36.0', '0.29')
    """
    value = size / GIB
    return f"{value:.2f}" if 0 < abs(value) < 1 else f"{value:,.1f}"


def with_error(size: int, error: int) -> str:
    """Return bytes in GiB and how far the truth may be from them: ``2.3 ±0.4``, ``0.55 ±0.18``."""
    if not error:
        return gib(size)
    digits = 1 if size >= GIB and error >= GIB // 10 else 2
    return f"{gib(size)} ±{error / GIB:.{digits}f}"


def indices(numbers: Sequence[int]) -> str:
    """Return ``0``, ``0, 2`` or ``0-7``."""
    ordered = sorted(numbers)
    if len(ordered) > 2 and ordered == list(range(ordered[0], ordered[-1] + 1)):
        return f"{ordered[0]}-{ordered[-1]}"
    return ", ".join(map(str, ordered))


def listed(names: Sequence[str]) -> str:
    """Return the names, or the first ones and how many more there are."""
    if len(names) <= MOST_NAMED:
        return ", ".join(names)
    shown = MOST_NAMED - 1
    return f"{', '.join(names[:shown])} and {len(names) - shown:,} more"
