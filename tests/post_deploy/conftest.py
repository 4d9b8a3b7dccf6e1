"""Makes one test of each check of each server of a deployment."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from vllm_fleet.errors import FleetError
from vllm_fleet.verify.cli import read_endpoints
from vllm_fleet.verify.endpoint import Endpoint, labels
from vllm_fleet.verify.outcome import Outcome
from vllm_fleet.verify.questions import Questions, load_questions
from vllm_fleet.verify.run import checks_for, verify_server

HERE = Path(__file__).parent
CONNECT_SECONDS = 2.0

QUESTIONS = pytest.StashKey[Questions | None]()

Outcomes = dict[tuple[Endpoint, str], Outcome]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrise by server and check; where there is nothing to verify, by the one reason for that."""
    if "check_id" not in metafunc.fixturenames:
        return
    config = metafunc.config
    try:
        questions = load_questions(Path(file) if (file := config.getoption("--questions")) else None)
        endpoints = _endpoints(config)
    except FleetError as error:
        # Only where it was not asked for may it be left out: a verification that skips everything proves nothing.
        marks = () if _asked_for(config) else pytest.mark.skip(reason=f"no deployment to verify: {error}")
        case = pytest.param(None, f"nothing is verified: {error}", marks=marks, id="nothing")
        metafunc.parametrize(("endpoint", "check_id"), [case])
        config.stash[QUESTIONS] = None
        return
    config.stash[QUESTIONS] = questions
    cases = [
        pytest.param(endpoint, check.id, id=f"{label}-{check.id}")
        for endpoint, label in zip(endpoints, labels(endpoints), strict=True)
        for check in checks_for(endpoint, questions)
    ]
    metafunc.parametrize(("endpoint", "check_id"), cases)


def _endpoints(config: pytest.Config) -> Sequence[Endpoint]:
    endpoints = read_endpoints(config.getoption("--endpoints"), config.getoption("--inventory"))
    if not _asked_for(config) and not any(map(_listens, endpoints)):
        raise FleetError("none of the declared servers listens; `make quickstart` deploys them")
    return endpoints


def _asked_for(config: pytest.Config) -> bool:
    """Whether these tests were asked for by name: then a deployment that is not there is a failure, not a skip."""
    named = (Path(config.invocation_params.dir, argument.split("::")[0]).resolve() for argument in config.args)
    return bool(
        config.getoption("--endpoints")
        or config.getoption("--inventory")
        or any(path == HERE or HERE in path.parents for path in named)
    )


def _listens(endpoint: Endpoint) -> bool:
    try:
        socket.create_connection(endpoint.address, CONNECT_SECONDS).close()
    except OSError:
        return False
    return True


@pytest.fixture(scope="session")
def outcomes(request: pytest.FixtureRequest) -> Outcomes:
    """The outcomes of all selected checks, servers asked side by side."""
    if (questions := request.config.stash[QUESTIONS]) is None:
        return {}
    selected: dict[Endpoint, set[str]] = {}
    for item in request.session.items:
        if (case := getattr(item, "callspec", None)) and isinstance(endpoint := case.params.get("endpoint"), Endpoint):
            selected.setdefault(endpoint, set()).add(case.params["check_id"])
    with ThreadPoolExecutor(max_workers=max(1, len(selected))) as pool:
        results = list(pool.map(lambda one: verify_server(one, questions, only=frozenset(selected[one])), selected))
    return {(one.endpoint, found.check): found for one in results for found in one.outcomes}
