"""A deployed gateway before the three model servers of the lab, and a host to try it from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.integration.conftest import LabHost, run
from tests.integration.gateway.lab_gateway import LabGateway, send_tools


@pytest.fixture(scope="session")
def gateway(deployed_host: LabHost, tmp_path_factory: pytest.TempPathFactory) -> LabGateway:
    """The lab's gateway, and a client."""
    up = run("scripts/lab", "up", "--group", "clients", "client-1")
    assert up.status == 0, up.output
    file: Path = tmp_path_factory.mktemp("gateway") / "gateway.json"
    told = run(
        "ansible-playbook", "tests/integration/gateway/tell_gateways.yml", "-e", json.dumps({"told_file": str(file)})
    )
    assert told.status == 0, told.output[-3000:]
    found = json.loads(file.read_text())
    plan, secrets = found["plan"], found["secrets"]
    host, client = deployed_host, LabHost("client-1")
    for one in (host, client):
        send_tools(one)
    return LabGateway(
        plan=plan,
        base_url=plan["base_url"],
        key=secrets["keys"]["default"][0],
        ca_file=secrets["ca_file"],
        host=host,
        client=client,
        address=str(json.loads(run("ansible-inventory", "--host", host.name).output)["ansible_host"]),
    )
