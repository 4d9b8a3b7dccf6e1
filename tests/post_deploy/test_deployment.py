"""The post-deploy verification: one test per server and check. Ask a deployment with `pytest tests/post_deploy`."""

from __future__ import annotations

import pytest

from vllm_fleet.verify.endpoint import Endpoint
from vllm_fleet.verify.outcome import Outcome, Status
from vllm_fleet.verify.report import explanation


def test_server(endpoint: Endpoint | None, check_id: str, outcomes: dict[tuple[Endpoint, str], Outcome]) -> None:
    if endpoint is None:
        pytest.fail(check_id, pytrace=False)
    outcome = outcomes[endpoint, check_id]
    if outcome.status is Status.NOT_RUN:
        pytest.skip(outcome.reason)
    if outcome.status is Status.FAILED:
        lines = [f"{endpoint.name} on {endpoint.host}: {outcome.title}", *explanation(outcome)]
        pytest.fail("\n".join(lines), pytrace=False)
