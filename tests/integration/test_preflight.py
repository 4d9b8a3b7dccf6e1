"""The preflight on a plain lab host: several hosts with different findings at once, one table, nothing changed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.conftest import ROOT, Done, LabHost, make_host, run

pytestmark = pytest.mark.integration

TAKEN, FREE = 32805, 32899
SHARED = "/var/cache/vllm-fleet/apt*"  # the lab's cache of packages, which other labs write, too
EMBEDDING = {
    "name": "embedding",
    "kind": "embedding",
    "model": "lab/tiny-xlm-roberta-embedding",
    "copy_from": f"{ROOT}/vllm_fleet/lab/models/trained/embedding",
    "dtype": "float16",
    "port": TAKEN,
}
NOWHERE = {"ansible_host": "127.0.0.1", "ansible_port": 1, "ansible_ssh_retries": 0}


@pytest.fixture(scope="module")
def inventory(lab_host: LabHost, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The lab host under three names with different declarations, and a host that is not there."""
    make_host()  # servers of other tests would listen there
    connection = json.loads(run("ansible-inventory", "--list").output)["_meta"]["hostvars"][lab_host.name]
    reached = {key: value for key, value in connection.items() if key.startswith("ansible_")}
    hosts: dict[str, dict[str, Any]] = {
        "squatted": {**reached, "model_servers": [EMBEDDING]},
        "mistaken": {
            **reached,
            "model_servers": [EMBEDDING | {"port": FREE, "dtype": "fp16"}],
            "model_server_bind_adress": "0.0.0.0",
        },
        "good": {**reached, "model_servers": [EMBEDDING | {"port": FREE}]},
        "gone": NOWHERE,
    }
    file = tmp_path_factory.mktemp("inventory") / "hosts.yml"
    file.write_text(yaml.safe_dump({"gpu_hosts": {"hosts": hosts, "vars": {"vllm_runtime_backend": "cpu"}}}))
    lab_host.read("systemd-run", "--unit=squatter", "python3", "-m", "http.server", str(TAKEN))
    yield file
    lab_host.do("systemctl", "stop", "squatter")


def snapshot(host: LabHost) -> list[str]:
    places = ("/etc", "/opt", "/usr", "/home", "/root", "/srv", "/var/lib", "/var/cache")
    files = host.read(
        "find", *places, "-xdev", "-not", "-path", "*/.ansible*", "-not", "-path", SHARED, "-printf", r"%p %s %C@\n"
    )
    return sorted(files.splitlines())


@pytest.fixture(scope="module")
def looked(inventory: Path, lab_host: LabHost) -> tuple[Done, list[str], list[str]]:
    """One look at all hosts, with the host's state before and after."""
    before = snapshot(lab_host)
    done = run("scripts/preflight", "-i", inventory, "--json")
    return done, before, snapshot(lab_host)


def test_every_host_has_its_own_findings_in_one_look(looked: tuple[Done, list[str], list[str]]) -> None:
    done, _, _ = looked
    assert done.status == 1, done.output
    report = json.loads(done.output)
    errors = {
        host["name"]: [found["code"] for found in host["findings"] if found["severity"] == "error"]
        for host in report["hosts"]
    }
    assert errors == {
        "squatted": ["port-taken"],
        "mistaken": ["declaration", "declaration"],
        "good": [],
        "gone": ["host-unreachable"],
    }
    assert report["errors"] == 4


def test_the_look_changes_nothing(looked: tuple[Done, list[str], list[str]]) -> None:
    _, before, after = looked
    assert after == before


def test_the_playbook_shows_one_table_and_ends_the_run_for_all_hosts(inventory: Path) -> None:
    done = run("ansible-playbook", "playbooks/preflight.yml", "-i", inventory, "--check")
    assert done.status == 2, done.output
    for sentence in (
        f"server embedding: port {TAKEN} is taken by python3 (pid ",
        ", unit squatter.service). Stop it, or declare another port.",
        "server embedding: dtype: expected one of auto, half, float16",
        "variable model_server_bind_adress: nothing reads it; did you mean model_server_bind_address?",
        "The host cannot be reached: nothing listens on its SSH port.",
    ):
        assert sentence in done.output, sentence
    assert done.output.count("host      severity  code") == 1
    assert len(re.findall(r"(?m)^\w+ .*changed=0 ", done.output)) == 4


def test_warnings_do_not_end_a_run(inventory: Path, lab_host: LabHost) -> None:
    """A package index that does not answer is a warning: there may be a cache."""
    settings = json.dumps({"vllm_runtime_environment": {"PIP_INDEX_URL": "http://127.0.0.1:1/simple"}})
    done = run("scripts/preflight", "-i", inventory, "--limit", "good", "-e", settings)
    assert done.status == 0, done.output
    assert "index-unreachable" in done.output
    assert "127.0.0.1:1/simple does not answer" in done.output
    assert "1 warning on 1 host, nothing that would stop the run; nothing was changed." in done.output
