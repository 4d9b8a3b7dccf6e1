"""Doubts about a placement that works."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

from vllm_fleet.plan.placement.arrange import arrange
from vllm_fleet.plan.placement.site import Site
from vllm_fleet.plan.placement.topology import ACROSS
from vllm_fleet.plan.placement.types import Placement, Request
from vllm_fleet.plan.placement.wording import gpus
from vllm_fleet.plan.problems import Change, Problem
from vllm_fleet.plan.sentences import counted, listed


def doubts(requests: Sequence[Request], site: Site, placement: Placement) -> list[Problem]:
    """Return a warning for each server whose ranks meet on the bus between processors, with closer GPUs if any."""
    # Where links are unknown there may well be NVLink.
    if not site.links:
        return []
    return [
        _across(request, requests, site, group)
        for request in requests
        if (group := site.positions(placement.devices[request.name])) and site.topology.closeness(group) == ACROSS
    ]


def _across(request: Request, requests: Sequence[Request], site: Site, group: tuple[int, ...]) -> Problem:
    nodes = sorted({site.topology.nodes[position] for position in group})
    found = (
        f"its {counted(request.ranks, 'rank')} are on {gpus(site.indices(group))}, which are joined only by the bus "
        f"between processors ({listed(nodes)}), without NVLink: each token waits for it"
    )
    closer = _closer(request, requests, site)
    remedies = () if closer is None else ((Change(request.name, "gpus", list(closer)),),)
    better = f"; gpus: {list(closer)} are closer" if closer else "; no GPUs that are closer are free"
    return Problem(f"server {request.name}", found + better, "plan-placement", "warning", remedies)


def _closer(request: Request, requests: Sequence[Request], site: Site) -> tuple[int, ...] | None:
    """Return the closest devices that a server could be declared on without moving another one."""
    groups = combinations(range(len(site.devices)), request.ranks)
    close = [group for group in groups if site.topology.closeness(group) < ACROSS]
    for group in sorted(close, key=site.topology.closeness):
        devices = site.indices(group)
        changed = [replace(other, devices=devices) if other == request else other for other in requests]
        if arrange(changed, site) is not None:
            return devices
    return None
