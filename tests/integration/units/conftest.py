"""Two model servers whose units the tests break: a declaration of their own, with a short watchdog."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import ROOT, LabHost, run
from tests.integration.units.model_unit import DRAIN_SECONDS, SLACK_SECONDS, WATCHDOG_SECONDS, ModelUnit, address_of

TRAINED = ROOT / "vllm_fleet/lab/models/trained"
DECLARATION: dict[str, Any] = {
    # The tests ask the servers themselves, from the controller.
    "model_server_bind_address": "0.0.0.0",
    "model_firewall_enabled": False,
    "model_server_watchdog_seconds": WATCHDOG_SECONDS,
    "model_server_drain_seconds": DRAIN_SECONDS,
    "model_servers": [
        {
            "name": "llm",
            "kind": "llm",
            "model": "lab/tiny-qwen2",
            "copy_from": f"{TRAINED}/llm",
            "served_model_name": "tiny-qwen2",
            "dtype": "float16",
            "tensor_parallel_size": 2,
            "port": 32804,
            "max_model_len": 2048,
        },
        {
            "name": "embedding",
            "kind": "embedding",
            "model": "lab/tiny-xlm-roberta-embedding",
            "copy_from": f"{TRAINED}/embedding",
            "served_model_name": "tiny-embedding",
            "dtype": "float16",
            "port": 32805,
            # Nothing is compiled, so that its many starts are quick.
            "extra_args": {"enforce-eager": True},
        },
    ],
}


@pytest.fixture(scope="package")
def deployed(lab_host: LabHost, tmp_path_factory: pytest.TempPathFactory) -> LabHost:
    """Two servers with a short watchdog, as a user would declare them."""
    file: Path = tmp_path_factory.mktemp("units") / "declaration.json"
    file.write_text(json.dumps(DECLARATION))
    # Without a gateway, and a verification that would mind its absence: the servers are asked at their ports.
    playbooks = [f"playbooks/{name}.yml" for name in ("runtime", "models", "serve")]
    done = run("ansible-playbook", *playbooks, "-e", f"@{file}", timeout=1500)
    assert done.status == 0, done.output[-6000:]
    return lab_host


@pytest.fixture
def embedding(deployed: LabHost) -> Iterator[ModelUnit]:
    """The server that starts quickest, serving; whatever a test did to it is undone."""
    unit = ModelUnit(deployed, "embedding", 32805)
    if not unit.is_serving():
        unit.start()
    yield unit
    deployed.do("systemctl", "reset-failed", unit.name)


@pytest.fixture
def stopped(deployed: LabHost) -> Iterator[ModelUnit]:
    """The same server, not running."""
    unit = ModelUnit(deployed, "embedding", 32805)
    if unit.get("ActiveState") != "inactive":
        unit.stop(DRAIN_SECONDS + SLACK_SECONDS)
    deployed.do("systemctl", "reset-failed", unit.name)
    yield unit
    deployed.do("systemctl", "reset-failed", unit.name)


@pytest.fixture
def llm(deployed: LabHost) -> ModelUnit:
    """The server with two workers, serving."""
    unit = ModelUnit(deployed, "llm", 32804)
    if not unit.is_serving():
        unit.start()
    return unit


@pytest.fixture(scope="package")
def address(deployed: LabHost) -> str:
    return address_of(deployed)
