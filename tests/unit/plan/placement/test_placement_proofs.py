"""What holds for every host and every declaration, and what trying everything says on small ones."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tests.placements import ALONE, GIB, LIMIT, NOTHING, held, hosts, least_share, possible, running, servers
from vllm_fleet.plan.host import Device
from vllm_fleet.plan.placement.place import place
from vllm_fleet.plan.placement.remedies import applied
from vllm_fleet.plan.placement.site import Site
from vllm_fleet.plan.placement.types import Placement, Request

Case = tuple[list[Device], list[Request]]
cases = hosts().flatmap(lambda devices: st.tuples(st.just(devices), servers(devices)))
# On a loaded machine a deadline says nothing of the code; many drawn hosts are too small for a placement.
unhurried = settings(suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])


def placement_of(requests: Sequence[Request], devices: Sequence[Device]) -> Placement:
    """Return the placement; where there is none, the case says nothing about placements."""
    placement, _ = place(requests, devices, None, LIMIT, ALONE)
    assume(placement is not None)
    assert placement is not None
    return placement


@unhurried
@given(cases)
def test_a_placement_is_found_whenever_there_is_one(case: Case) -> None:
    devices, requests = case
    placement, problems = place(requests, devices, None, LIMIT, ALONE)
    assert (placement is not None) == possible(requests, devices)
    assert (placement is None) == bool(problems)


@unhurried
@given(cases)
def test_no_gpu_is_promised_more_than_it_has_and_every_server_gets_what_it_needs(case: Case) -> None:
    devices, requests = case
    placement = placement_of(requests, devices)
    for device in devices:
        here = [request for request in requests if device.index in placement.devices[request.name]]
        most = 1.0 if len(here) == 1 and here[0].share is not None else LIMIT
        assert sum(placement.shares[request.name] for request in here) <= max(most - held(device), 0) + NOTHING
    for request in requests:
        group = [devices[index] for index in placement.devices[request.name]]
        assert len({device.index for device in group}) == request.ranks
        least, share = least_share(request, group), placement.shares[request.name]
        assert share >= least - NOTHING
        assert request.elastic or share <= least + NOTHING


@unhurried
@given(cases, st.integers())
def test_the_order_of_the_declaration_and_of_the_devices_changes_nothing(case: Case, seed: int) -> None:
    devices, requests = case
    first = place(requests, devices, None, LIMIT, ALONE)
    shuffle = random.Random(seed).shuffle
    shuffle(devices)
    shuffle(requests)
    assert place(requests, devices, None, LIMIT, ALONE) == first


@unhurried
@given(cases)
def test_one_more_gpu_never_makes_a_host_too_small(case: Case) -> None:
    devices, requests = case
    placement_of(requests, devices)
    more = [*devices, Device(len(devices), "GPU", devices[0].memory_bytes)]
    assert place(requests, more, None, LIMIT, ALONE)[0] is not None


@unhurried
@given(cases)
def test_what_runs_as_planned_is_left_alone_even_beside_a_new_gpu(case: Case) -> None:
    devices, requests = case
    placement = placement_of(requests, devices)
    more = [*devices, Device(len(devices), "GPU", devices[0].memory_bytes)]
    for there in (devices, more):
        assert place(running(requests, placement), there, None, LIMIT, ALONE)[0] == placement


@unhurried
@given(cases)
def test_another_server_moves_none_and_changes_no_share_but_of_those_it_joins(case: Case) -> None:
    devices, (new, *others) = case
    before = placement_of(others, devices)
    after = placement_of([*running(others, before), new], devices)
    joined = set(after.devices[new.name])
    for other in others:
        assert after.devices[other.name] == before.devices[other.name]
        if not joined & set(after.devices[other.name]):
            assert after.shares[other.name] == before.shares[other.name]


@unhurried
@given(cases, st.sampled_from([5, 15, 40]))
def test_a_server_that_grows_moves_no_other(case: Case, growth: int) -> None:
    devices, requests = case
    before = placement_of(requests, devices)
    grown, *others = running(requests, before)
    after = placement_of([replace(grown, least=(grown.least or 0) + growth * GIB), *others], devices)
    for other in others:
        assert after.devices[other.name] == before.devices[other.name]


@unhurried
@given(cases)
def test_removing_a_server_leaves_the_others_as_they_are(case: Case) -> None:
    devices, requests = case
    before = placement_of(requests, devices)
    after = placement_of(running(requests, before)[1:], devices)
    for request in requests[1:]:
        assert after.devices[request.name] == before.devices[request.name]
        assert after.shares[request.name] == before.shares[request.name]


@unhurried
@given(cases)
def test_every_change_that_a_refusal_names_removes_it(case: Case) -> None:
    devices, requests = case
    placement, problems = place(requests, devices, None, LIMIT, ALONE)
    assume(placement is None)
    site = Site.of(devices, None, LIMIT, ALONE)
    for problem in problems:
        for remedy in problem.remedies:
            changed, on = applied(remedy, requests, site)
            _, left = place(changed, on.devices, None, LIMIT, ALONE)
            assert problem.where not in {other.where for other in left}, remedy


@unhurried
@given(cases)
def test_where_more_gpus_of_the_kind_would_do_a_refusal_says_how_many(case: Case) -> None:
    devices, requests = case
    alike = [replace(device, memory_bytes=devices[0].memory_bytes, held_bytes=0, mig=False) for device in devices]
    placement, problems = place(requests, alike, None, LIMIT, ALONE)
    assume(placement is None)
    for problem in problems:
        assert problem.remedies or problem.code == "plan-memory", problem
