"""Which server runs on which devices, and with which share of them: the entry to this package.

Declared devices and shares are taken as they are, and what runs stays where it is (`arrange`). For the rest the best
devices are searched for (`search`), what the servers need is made shares that add up (`shares`), and where there is
no way, the reasons are told (`refusals`) with what would help (`remedies`).
"""

from __future__ import annotations

from collections.abc import Sequence

from vllm_fleet.plan.host import Device
from vllm_fleet.plan.placement.arrange import arrange
from vllm_fleet.plan.placement.doubts import doubts
from vllm_fleet.plan.placement.refusals import reasons
from vllm_fleet.plan.placement.remedies import with_remedies
from vllm_fleet.plan.placement.search import MOST_STEPS, ExhaustedError
from vllm_fleet.plan.placement.site import Site
from vllm_fleet.plan.placement.topology import Links
from vllm_fleet.plan.placement.types import Placement, Request
from vllm_fleet.plan.problems import Problem


def place(
    requests: Sequence[Request],
    devices: Sequence[Device],
    links: Links | None,
    limit: float,
    alone: float = 0.92,
    help_along: bool = True,
) -> tuple[Placement | None, list[Problem]]:
    """Place all servers of a host; return their placement and doubts about it, or None and the reasons.

    The answer does not depend on the order of ``requests`` or ``devices``. The search is complete: where servers that
    do not run yet can be placed, they are.

    Args:
        requests: the servers, each name once.
        devices: all devices of the host.
        links: what joins pairs of device indices, the smaller first; None where that is not known.
        limit: the fraction of a device that the shares of its servers may add up to, less what others hold there.
        alone: the fraction that a server gets at most whose share is not declared.
        help_along: whether to search for changes that would help, which takes longer than all the rest.
    """
    site = Site.of(devices, links, limit, alone)
    ordered = sorted(requests, key=lambda request: request.name)
    try:
        placement = arrange(ordered, site)
        if placement is not None:
            return placement, doubts(ordered, site, placement)
        found = reasons(ordered, site)
        return None, with_remedies(found, ordered, site) if help_along else found
    except ExhaustedError:
        said = f"no way to place {len(ordered)} servers was found in {MOST_STEPS:,} steps"
        return None, [Problem("host", f"{said}; declare gpus for some of them", "plan-placement")]
