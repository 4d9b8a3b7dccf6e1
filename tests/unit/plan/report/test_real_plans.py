"""Plans as they are really made, of recorded and constructed hosts, in every form."""

from __future__ import annotations

from dataclasses import asdict, fields
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

from tests.hosts import replay
from tests.load import ROOT
from tests.unit.plan.report import examples
from vllm_fleet.plan.cards import hypothetical
from vllm_fleet.plan.flags import FlagCatalogue
from vllm_fleet.plan.host import Host
from vllm_fleet.plan.report.bars import bars
from vllm_fleet.plan.report.hosts import HostReport, Report, host_report
from vllm_fleet.plan.report.html import as_html
from vllm_fleet.plan.report.svg import as_svg
from vllm_fleet.plan.report.text import as_text
from vllm_fleet.plan.result import Memory, PlannedDevice, Server, ServingPlan
from vllm_fleet.plan.serving import make_plan
from vllm_fleet.plan.settings import Settings

FLAGS = FlagCatalogue.load()
DEFAULTS = yaml.safe_load(Path(ROOT, "roles/serving_plan/defaults/main.yml").read_text(encoding="utf-8"))
GUIDE = DEFAULTS["serving_plan_default_model_servers"]
UNKNOWN = {"name": "own", "kind": "llm", "model": "own/model", "port": 32810, "gpu_memory_utilization": 0.2}


def planned(
    host: Host, declared: list[dict[str, Any]], now: dict[str, Any] | None = None, **settings: Any
) -> HostReport:
    plan, problems = make_plan(declared, host, Settings(**settings), FLAGS, now=now or {})
    return host_report(host.name, plan and plan.as_dict(), [asdict(one) for one in problems], now or {})


def running(server: dict[str, Any]) -> dict[str, Any]:
    """What model_server_facts says of a server that runs as planned."""
    visible = server["env"]["CUDA_VISIBLE_DEVICES"].split(",")
    return {
        **{key: server[key] for key in ("unit", "argv", "env", "gpus", "share")},
        "active": "active",
        "visible": visible,
    }


def recorded(name: str) -> Host:
    return Host.from_facts(name, "192.0.2.1", replay.facts(name))


@pytest.mark.parametrize(
    ("host", "declared", "settings"),
    [
        (hypothetical("2xL40S"), GUIDE, {}),
        (hypothetical("2xL40S"), [*GUIDE, UNKNOWN], {}),
        (hypothetical("1xL4"), GUIDE, {}),
        (recorded("h100x8"), GUIDE, {}),
        (recorded("rtx4090x2"), GUIDE, {}),
        (recorded("l40s"), GUIDE[1:], {}),
        (recorded("nouveau-loaded"), GUIDE, {}),
        (recorded("no-gpu"), GUIDE, {"backend": "cpu"}),
    ],
    ids=["two", "unknown model", "refused", "eight", "desktop", "one", "no driver", "processors"],
)
def test_every_form_shows_every_server_and_every_problem(
    host: Host, declared: list[dict[str, Any]], settings: dict[str, Any]
) -> None:
    one = planned(host, declared, **settings)
    report = Report((one,))
    text, page, picture = as_text(report), as_html(report), as_svg(report)
    ElementTree.fromstring(picture)
    for problem in one.problems:
        assert problem["message"] in text
    plan = one.plan or {"servers": [], "devices": []}
    for server in plan["servers"]:
        assert f"--port {server['port']}" in text
        assert f"--port {server['port']}" in page
        assert server["name"] in picture or not plan["devices"]
    assert (one.plan is None) == ("refused" in text.splitlines()[-1])


def test_no_bar_of_a_plan_exceeds_its_device() -> None:
    for spec in ("2xL40S", "2xRTX 4090", "4xL4", "8xH100-80GB"):
        one = planned(hypothetical(spec), GUIDE)
        assert one.plan, one.problems
        assert all(bar.scale == bar.memory for bar in bars(one.plan))


def test_a_plan_that_runs_changes_nothing_and_is_made_again() -> None:
    host = hypothetical("2xL40S")
    first = planned(host, GUIDE)
    assert first.plan
    now = {server["name"]: running(server) for server in first.plan["servers"]}
    again = planned(host, GUIDE, now)
    assert [one.effect for one in again.differences or ()] == ["keeps running"] * 3
    fewer = planned(host, GUIDE[:2], now)
    assert [one.effect for one in fewer.differences or ()] == ["keeps running"] * 2 + ["stops"]


def test_the_constructed_plans_have_the_form_of_real_ones() -> None:
    made = examples.guide()
    shapes = [(made, ServingPlan), (made["devices"][0], PlannedDevice), (made["servers"][0]["memory"], Memory)]
    for plain, kind in [*shapes, (made["servers"][0], Server)]:
        known = {field.name for field in fields(kind)}
        assert set(plain) <= known
        assert kind is Server or set(plain) == known
