"""All hosts make one report: alike ones together, one sentence at the end, no secrets, and the same as JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unit.plan.report.examples import (
    REFUSAL,
    WARNING,
    eight,
    guide,
    many_hosts,
    not_known,
    one_host,
    other_hosts,
    running,
)
from vllm_fleet.plan.report import handover
from vllm_fleet.plan.report.hosts import HostReport, Report, alike, as_json, from_json, host_report, summary


def reported(name: str, made: dict[str, Any] | None = None, *problems: dict[str, Any]) -> HostReport:
    return host_report(name, made, problems, None)


def groups(*hosts: HostReport) -> list[list[str]]:
    return [[host.name for host in group] for group in alike(hosts)]


def test_hosts_that_differ_in_name_and_address_alone_are_alike() -> None:
    assert groups(reported("a", guide("a")), reported("b", eight("b")), reported("c", guide("c"))) == [
        ["a", "c"],
        ["b"],
    ]
    hosts = [reported(name, None, REFUSAL | {"message": f"wants GPUs 0, 1, {name} has 1"}) for name in ("a-1", "a-12")]
    assert groups(*hosts) == [["a-1", "a-12"]]


@pytest.mark.parametrize("key", ["share", "argv", "gpus", "env", "memory"])
def test_hosts_that_differ_in_a_server_are_not_alike(key: str) -> None:
    other = guide("b")
    other["servers"][0] |= {key: None} if key in ("share", "memory") else {key: type(other["servers"][0][key])()}
    assert groups(reported("a", guide("a")), reported("b", other)) == [["a"], ["b"]]


def test_hosts_on_which_a_run_would_do_something_else_are_not_alike() -> None:
    now = host_report("a", guide("a"), [], running(guide("a"))), host_report("b", guide("b"), [], {})
    assert groups(*now, reported("c", guide("c"))) == [["a"], ["b"], ["c"]]


@pytest.mark.parametrize(
    ("report", "sentence"),
    [
        (
            one_host(),
            "3 model servers planned on 1 host; 1 warning; a run would start 1, restart 1, stop 1 and leave 1 running; "
            "nothing was changed.",
        ),
        (
            many_hosts(),
            "2 of 200 hosts refused for 2 errors; 593 model servers planned on 198 hosts; 1 warning; "
            "a run would stop before it changes anything; nothing was changed.",
        ),
        (
            Report((reported("a", None, REFUSAL, REFUSAL),)),
            "1 of 1 host refused for 2 errors; a run would stop before it changes anything; nothing was changed.",
        ),
        (
            Report((reported("a", guide()),), "4xL40S"),
            "3 model servers planned on 1 host with 4xL40S; nothing was changed.",
        ),
        (
            Report((host_report("a", guide(), [], running(guide())),)),
            "3 model servers planned on 1 host; a run would leave 3 running; nothing was changed.",
        ),
        (
            Report((host_report("a", guide(), [], {}),)),
            "3 model servers planned on 1 host; a run would start 3; nothing was changed.",
        ),
    ],
)
def test_the_last_sentence_says_what_a_run_would_do(report: Report, sentence: str) -> None:
    assert summary(report) == sentence


@pytest.mark.parametrize("report", [one_host(), many_hosts(5), other_hosts()])
def test_the_report_survives_json(report: Report) -> None:
    assert from_json(json.loads(json.dumps(as_json(report)))) == report


def test_no_secret_is_in_the_report() -> None:
    made = guide()
    made["servers"][0]["env"] |= {"HF_TOKEN": "s3cret", "HTTPS_PROXY": "http://me:s3cret@proxy:1"}
    made["servers"][0]["argv"] += ["--hf-token", "s3cret", "--max-num-seqs", "64"]
    now = running(made)
    now["llm"]["env"] = now["llm"]["env"] | {"HF_TOKEN": "s3cret of old"}
    found = json.dumps(as_json(Report((host_report("a", made, [WARNING], now),))))
    assert "s3cret" not in found
    assert "HF_TOKEN" in found
    assert '"--max-num-seqs", "64"' in found


TOLD = {"plan": guide(), "problems": [WARNING], "failures": [], "now": {}}
FAILURE = {"code": "host-unreachable", "severity": "error", "message": "The host cannot be reached."}


@pytest.mark.parametrize(
    ("variables", "planned", "codes"),
    [
        ({"plan_of_host": TOLD}, True, ["plan-model"]),
        # The playbook has no other way to say None of a plan.
        ({"plan_of_host": TOLD | {"plan": {}, "problems": [REFUSAL]}}, False, ["plan-placement"]),
        ({"plan_of_host": TOLD | {"plan": {}, "failures": [FAILURE]}}, False, ["host-unreachable", "plan-model"]),
        # A misspelt variable is no matter of the plan, and a run stops for it all the same.
        ({"plan_of_host": TOLD | {"problems": [REFUSAL]}}, False, ["plan-placement"]),
        ({}, False, ["look-failed"]),
    ],
)
def test_what_the_playbook_has_of_a_host_is_its_plan_or_why_not(
    variables: dict[str, Any], planned: bool, codes: list[str]
) -> None:
    (host,) = handover.report(["a"], {"a": variables})["hosts"]
    assert (host["plan"] is not None) is planned
    assert [one["code"] for one in host["problems"]] == codes
    assert all(set(one) == set(WARNING) for one in host["problems"])


def test_a_host_where_nobody_looked_has_no_differences() -> None:
    (host,) = handover.report(["a"], {"a": {"plan_of_host": TOLD | {"now": None}}}, "4xL40S")["hosts"]
    assert host["differences"] is None


def test_hosts_without_known_gpus_count_as_planned() -> None:
    assert Report((reported("a", not_known()),)).refused == ()
