"""What a run would do to the servers that are there."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.plan.report.examples import guide, running
from vllm_fleet.plan.report.difference import Difference, compare

LLM = guide()["servers"][0]
ARGV: list[str] = LLM["argv"]


def of_llm(**there: Any) -> Difference:
    """The llm, of which something else is there than is planned."""
    now = running(guide())
    now["llm"] |= there
    return next(one for one in compare(guide(), now) if one.server == "llm")


def test_what_runs_as_planned_keeps_running() -> None:
    assert [(one.server, str(one)) for one in compare(guide(), running(guide()))] == [
        (name, "keeps running") for name in ("llm", "embedding", "rerank")
    ]


def test_on_a_host_without_servers_all_start() -> None:
    assert {str(one) for one in compare(guide(), {})} == {"starts: it is new"}


@pytest.mark.parametrize(
    ("there", "sentence"),
    [
        ({"argv": [*ARGV[:-1], "0.7"]}, "restarts: --gpu-memory-utilization 0.7 -> 0.84"),
        ({"argv": [*ARGV, "--max-num-seqs", "64"]}, "restarts: --max-num-seqs 64 is dropped"),
        ({"argv": [*ARGV, "--enforce-eager"]}, "restarts: --enforce-eager is dropped"),
        ({"argv": ARGV[:-2]}, "restarts: --gpu-memory-utilization 0.84 is added"),
        ({"argv": ["serve", "/other", *ARGV[2:]]}, "restarts: model /other -> /var/lib/vllm-fleet/models/llm"),
        ({"argv": [*ARGV, "--middleware", "a", "b c"]}, "restarts: --middleware a 'b c' is dropped"),
        ({"env": LLM["env"] | {"CUDA_VISIBLE_DEVICES": "2,3"}}, "restarts: CUDA_VISIBLE_DEVICES 2,3 -> 0,1"),
        ({"env": {"CUDA_VISIBLE_DEVICES": "0,1"}}, "restarts: HF_HUB_OFFLINE 1 is added"),
        ({"active": "failed"}, "starts (its unit is failed now)"),
        ({"active": None}, "starts (its unit is in an unknown state now)"),
        (
            {"active": "failed", "argv": ARGV[:-2]},
            "starts (its unit is failed now): --gpu-memory-utilization 0.84 is added",
        ),
    ],
)  # fmt: skip
def test_what_changes_is_named_by_flag(there: dict[str, Any], sentence: str) -> None:
    assert str(of_llm(**there)) == sentence


def test_the_order_of_flags_is_no_difference() -> None:
    turned = [*ARGV[:2], *ARGV[-2:], *ARGV[2:-2]]
    assert turned != ARGV
    assert of_llm(argv=turned).effect == "keeps running"


def test_what_is_declared_no_more_stops() -> None:
    now = running(guide())
    now["old"] = now["llm"] | {"unit": "vllm-old.service"}
    last = compare(guide(), now)[-1]
    assert (last.server, last.unit, last.effect) == ("old", "vllm-old.service", "stops")
    assert str(last) == "stops, and its unit is removed: it is declared no more"


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("HF_TOKEN", "hf_abc", "(hidden)"),
        ("AWS_SECRET_ACCESS_KEY", "abc", "(hidden)"),
        ("HTTPS_PROXY", "http://me:pw@proxy:3128", "http://(hidden)@proxy:3128"),
        ("VLLM_MAX_TOKENS", "1", "1"),
    ],
)
def test_secrets_are_not_shown(name: str, value: str, shown: str) -> None:
    (changed,) = of_llm(env=LLM["env"] | {name: value}).changes
    assert str(changed) == f"{name} {shown} is dropped"
    assert str(of_llm(argv=[*ARGV, "--hf-token", "abc"]).changes[0]) == "--hf-token (hidden) is dropped"


def test_a_difference_survives_json() -> None:
    for one in (of_llm(argv=ARGV[:-2]), *compare({"servers": []}, running(guide()))):
        assert Difference.from_mapping(one.as_dict()) == one
