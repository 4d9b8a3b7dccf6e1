"""Declarations with the plan, or the refusals, that they must get: corpus/*.yml, one file per subject.

Each case says ``on`` which GPUs (as for --what-if) or on which ``host`` of tests/hosts the ``servers`` are declared,
what of them runs ``now``, and either the ``plan``, by server, or why they are ``refused``. ``warned`` are all doubts
about a plan. Of a sentence the parts are given that an operator needs: names and numbers; ``fits`` are changes that it
has to name, among others.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.hosts import replay
from vllm_fleet.plan.cards import hypothetical
from vllm_fleet.plan.flags import FlagCatalogue
from vllm_fleet.plan.host import Host
from vllm_fleet.plan.models.shipped import shipped
from vllm_fleet.plan.problems import Change, Problem
from vllm_fleet.plan.remedies import in_words
from vllm_fleet.plan.result import ServingPlan
from vllm_fleet.plan.serving import make_plan
from vllm_fleet.plan.settings import Settings

CORPUS = Path(__file__).parent / "corpus"
FLAGS = FlagCatalogue.load()
GIB = 1 << 30
# Shares and lengths that follow from estimates of memory move with these; declared shares are exact.
TOLERANCE = 0.02
TOKENS_TOLERANCE = 0.15
LENGTH = re.compile(r"<= [\d,]+")

Case = dict[str, Any]


def cases() -> list[Any]:
    """Return the cases of all files, each with what it is called."""
    found = []
    for path in sorted(CORPUS.glob("*.yml")):
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        found += [pytest.param(case, id=f"{path.stem}: {case['case']}") for case in content["cases"]]
    return found


CASES = cases()


def host_of(case: Case) -> Host:
    if "host" in case:
        host = Host.from_facts("gpu-01", "192.0.2.11", replay.facts(case["host"]))
    else:
        host = hypothetical(case["on"], "gpu-01", "192.0.2.11")
    changes = case.get("changes", {})
    devices = [
        replace(
            device,
            held_bytes=changes.get("held_gib", {}).get(device.index, 0) * GIB,
            numa_node=changes["numa"][device.index] if "numa" in changes else device.numa_node,
        )
        for device in host.gpus or ()
    ]
    host = host if host.gpus is None else replace(host, gpus=tuple(devices))
    if "links" in changes:
        host = replace(host, links=_links(changes["links"], host))
    return replace(host, memory_bytes=changes["memory_gib"] * GIB) if "memory_gib" in changes else host


def _links(kind: str, host: Host) -> dict[tuple[int, int], str]:
    """Return ``pairs`` of GPUs with a bridge of NVLink, or ``PCIe`` alone, with one NUMA node or more."""
    found = {}
    for a in host.gpus or ():
        for b in (other for other in host.gpus or () if other.index > a.index):
            bridged = kind == "pairs" and a.index // 2 == b.index // 2
            found[a.index, b.index] = "NV4" if bridged else "NODE" if a.numa_node == b.numa_node else "SYS"
    return found


def plan_of(case: Case, servers: list[Case], host: Host) -> tuple[ServingPlan | None, tuple[Problem, ...]]:
    now = {
        name: {"visible": [str(index) for index in runs["gpus"]], "share": runs["share"]}
        for name, runs in case.get("now", {}).items()
    }
    return make_plan(
        servers,
        host,
        Settings(**case.get("settings", {})),
        FLAGS,
        {path: _description(given) for path, given in case.get("descriptions", {}).items()},
        now=now,
    )


def _description(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the description of a constructed model: one that is ``like`` a real one but for what is given."""
    return {**(shipped(given.get("like", "")) or {}), **{key: given[key] for key in given if key != "like"}}


def told(problems: Iterable[Problem], expected: list[dict[str, Any]]) -> None:
    """Compare problems with those expected: no other ones, and each says what it has to."""
    found = list(problems)
    places = [(problem.where, problem.code) for problem in found]
    assert sorted(places) == sorted((wanted["where"], wanted["code"]) for wanted in expected), [*map(str, found)]
    for wanted in expected:
        same = [p for p in found if (p.where, p.code) == (wanted["where"], wanted["code"])]
        assert any(all(part in problem.message for part in wanted["says"]) for problem in same), [*map(str, same)]
        fits = [[LENGTH.sub("<= ...", " and ".join(map(in_words, r))) for r in problem.remedies] for problem in same]
        assert any(set(wanted.get("fits", [])) <= set(words) for words in fits), fits


@pytest.mark.parametrize("case", CASES)
def test_a_declaration_gets_its_plan_or_its_refusals(case: Case) -> None:
    plan, problems = plan_of(case, case["servers"], host_of(case))
    if "refused" in case:
        assert plan is None
        told([problem for problem in problems if problem.severity == "error"], case["refused"])
        return
    assert plan is not None, [*map(str, problems)]
    told(problems, case.get("warned", []))
    assert [server.name for server in plan.servers] == list(case["plan"])
    for server in plan.servers:
        expected = case["plan"][server.name]
        assert (list(server.gpus), server.port) == (expected["gpus"], expected["port"]), server.name
        declared = any("gpu_memory_utilization" in one for one in case["servers"] if one["name"] == server.name)
        if declared or expected["share"] is None:
            assert server.share == expected["share"], server.name
        else:
            assert server.share == pytest.approx(expected["share"], abs=TOLERANCE), server.name
        if "kv_tokens" in expected:
            assert server.memory is not None
            assert server.memory.kv_tokens == pytest.approx(expected["kv_tokens"], rel=TOKENS_TOLERANCE), server.name


@pytest.mark.parametrize("case", [param for param in CASES if "plan" in param.values[0]])
def test_the_order_of_the_servers_changes_no_plan(case: Case) -> None:
    host = host_of(case)
    assert plan_of(case, case["servers"][::-1], host)[0] == plan_of(case, case["servers"], host)[0]


@pytest.mark.parametrize("case", [param for param in CASES if "plan" in param.values[0]])
def test_a_second_run_plans_what_runs(case: Case) -> None:
    host = host_of(case)
    plan, _ = plan_of(case, case["servers"], host)
    assert plan is not None
    now = {server.name: {"gpus": server.gpus, "share": server.share} for server in plan.servers}
    assert plan_of({**case, "now": now}, case["servers"], host)[0] == plan


@pytest.mark.parametrize("case", [param for param in CASES if "refused" in param.values[0]])
def test_each_change_that_is_named_removes_its_refusal(case: Case) -> None:
    host = host_of(case)
    for problem in plan_of(case, case["servers"], host)[1]:
        for remedy in problem.remedies if problem.severity == "error" else ():
            servers, on = case["servers"], host
            for change in remedy:
                servers = [_with(server, change) for server in servers]
                on = on if change.server else on.with_gpus(change.value)
            _, left = plan_of(case, servers, on)
            errors = {(other.where, other.code) for other in left if other.severity == "error"}
            assert (problem.where, problem.code) not in errors, remedy


def _with(server: Case, change: Change) -> Case:
    """Change one key, as a person would; a key that is to go is taken out."""
    if server["name"] != change.server:
        return server
    changed = {**server, change.key: change.value}
    return {key: value for key, value in changed.items() if value is not None}


def test_every_kind_of_problem_is_in_the_corpus() -> None:
    told_of = [problem for param in CASES for key in ("refused", "warned") for problem in param.values[0].get(key, [])]
    codes = {problem["code"] for problem in told_of}
    assert codes == {"declaration", "model-unknown", "plan-gpu", "plan-memory", "plan-model", "plan-placement"}
