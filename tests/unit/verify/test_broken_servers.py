"""Each broken server makes the checks fail that are there for it, and no other; a healthy server passes all."""

from __future__ import annotations

from collections import Counter
from fnmatch import fnmatchcase
from functools import cache

import pytest

from tests.broken_servers import matrix
from tests.broken_servers.broken import Broken, failed
from tests.broken_servers.catalogue import CATALOGUE
from tests.broken_servers.stub import QUESTIONS, error, serving
from vllm_fleet.verify.endpoint import GATEWAY, KINDS, Endpoint
from vllm_fleet.verify.outcome import Status
from vllm_fleet.verify.registry import registered
from vllm_fleet.verify.run import ServerResult, verify_server

BY_ID = {one.id: one for one in CATALOGUE}


@cache
def verified(broken_id: str) -> ServerResult:
    return BY_ID[broken_id].verify()


@pytest.mark.parametrize("kind", KINDS)
def test_a_healthy_server_passes_every_check(kind: str) -> None:
    with serving(kind) as endpoint:
        result = verify_server(endpoint, QUESTIONS, timeout=20)
    assert failed(result) == {}
    assert result.count(Status.NOT_RUN) == 0
    assert len(result.outcomes) == len(registered(kind, QUESTIONS))


@pytest.mark.parametrize("broken", CATALOGUE, ids=lambda one: one.id)
def test_a_broken_server_fails_exactly_the_checks_for_it(broken: Broken) -> None:
    result = verified(broken.id)
    found = failed(result)
    assert set(found) == {one.check for one in result.outcomes if broken.expects(one.check)}
    assert all(any(fnmatchcase(check, pattern) for check in found) for pattern in broken.fails)
    assert any(broken.message in finding for finding in found.values()), found


def test_every_check_notices_some_broken_server() -> None:
    noticed = {check for one in CATALOGUE for check in failed(verified(one.id))}
    assert {check.id for kind in (*KINDS, GATEWAY) for check in registered(kind, QUESTIONS)} - noticed == set()


def test_broken_servers_are_many_and_have_names_of_their_own() -> None:
    assert len(CATALOGUE) >= 30
    assert [name for name, count in Counter(one.id for one in CATALOGUE).items() if count > 1] == []


def test_the_page_about_broken_servers_is_up_to_date() -> None:
    page = matrix.text({one.id: verified(one.id) for one in CATALOGUE})
    assert matrix.FILE.read_text(encoding="utf-8") == page, "run scripts/broken-servers-matrix"


def stopped(kind: str) -> Endpoint:
    with serving(kind) as endpoint:
        return endpoint


def test_a_refused_connection_is_one_failure_that_names_server_host_and_url() -> None:
    endpoint = stopped("rerank")
    result = verify_server(endpoint, QUESTIONS, timeout=10)
    found = failed(result)
    assert set(found) == {"reachable"}
    assert f"connection refused: GET {endpoint.base_url}/v1/models (rerank on stub-host)" in found["reachable"]
    assert "systemctl status vllm-rerank.service" in found["reachable"]
    assert not result.answering
    assert result.count(Status.NOT_RUN) == len(result.outcomes) - 1


def test_a_wrong_key_is_not_shown() -> None:
    assert "key-of-last-year" not in repr(verified("another_key"))


@pytest.mark.parametrize("before", [0, 230])
def test_a_key_that_a_server_repeats_is_not_shown(before: int) -> None:
    """Nor half of it, where the message is cut."""
    key = "sk-secret-and-long"
    repeated = error(401, f"{'x' * before} Incorrect API key: {key}")
    with serving("llm", lambda path, request, answer: repeated, demands=key) as endpoint:
        result = verify_server(endpoint, QUESTIONS, timeout=10)
    assert "sk-secret" not in repr(result.outcomes)
    assert "[API key]" in repr(result.outcomes)


def test_a_server_without_tool_calls_is_not_asked_for_them() -> None:
    with serving("llm", tool_calls=False) as endpoint:
        result = verify_server(endpoint, QUESTIONS, timeout=20)
    calls = {f"{verb}_{one.id}" for verb in ("calls_tool", "streams_tool_call") for one in QUESTIONS.tools}
    assert {one.check for one in result.outcomes if one.status is Status.NOT_RUN} == {*calls, "dify_reads_tool_calls"}
    assert failed(result) == {}


def test_a_server_without_a_declared_key_is_reported_as_open() -> None:
    with serving("embedding", demands=None) as endpoint:
        result = verify_server(endpoint, QUESTIONS, timeout=20)
    assert [one.reason for one in result.outcomes if one.status is Status.NOT_RUN] == [
        "no API key is declared: whoever reaches the server can use it"
    ]
    assert failed(result) == {}
