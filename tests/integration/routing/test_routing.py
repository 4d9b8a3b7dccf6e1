"""A gateway on a host of its own, before two hosts with replicas and with two servers of one kind.

What is tried is the way of a request, so the servers are stand-ins that tell what reached them; three kinds of real
vLLM behind a gateway are tried in tests/integration/gateway.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.integration.conftest import LabHost, make_host, run, wait_until

pytestmark = pytest.mark.integration

HERE = Path(__file__).parent
HOSTS = ("lab-1", "lab-2")
# Name, kind, model, port: the small and the large llm have replicas each, the third host runs the gateway alone.
SERVERS = (
    ("small", "llm", "small-model", 33101),
    ("large", "llm", "org/large-model", 33102),
    ("rerank", "rerank", "rerank-model", 33103),
)
NARROW = "sk-narrow-0123456789"
UPSTREAM = "sk-between-gateway-and-servers"


@dataclass(frozen=True)
class Deployed:
    """The gateway, as a client knows it."""

    base_url: str
    ca_file: str
    key: str

    def post(self, path: str, body: dict[str, Any] | str, key: str = "") -> requests.Response:
        """Send a request; a body that is text goes as it is written."""
        return requests.post(
            self.base_url + path,
            data=body if isinstance(body, str) else json.dumps(body),
            headers={"Authorization": f"Bearer {key or self.key}", "Content-Type": "application/json"},
            verify=self.ca_file,
            timeout=30,
        )

    def reached(self, path: str, body: dict[str, Any] | str, key: str = "") -> str:
        """Return which server a request reached."""
        answer = self.post(path, body, key)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["name"])


def addresses() -> dict[str, str]:
    """Return the addresses of the lab's hosts."""
    found = json.loads(run("ansible-inventory", "--list").output)["_meta"]["hostvars"]
    return {name: str(variables["ansible_host"]) for name, variables in found.items()}


def planned(host: str, address: str) -> list[dict[str, Any]]:
    """Return the servers of a host as its serving plan has them."""
    return [
        {
            "name": name,
            "kind": kind,
            "served_model_name": model,
            "port": port,
            "host": host,
            "unit": f"vllm-{name}.service",
            "context_length": 4096,
            "tool_calls": False,
            "env": {"VLLM_HTTP_TIMEOUT_KEEP_ALIVE": "75"},
            "probe_address": address,
            "base_url": f"http://{address}:{port}",
        }
        for name, kind, model, port in SERVERS
    ]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    if os.geteuid() != 0:
        pytest.skip("a lab host needs root: run `sudo make test`")
    make_host()
    for words in (["lab-2"], ["--group", "gateways", "gateway-1"]):
        up = run("scripts/lab", "up", *words)
        assert up.status == 0, up.output
    where = addresses()
    script = (HERE / "stand_in.py").read_text()
    for host in HOSTS:
        for name, _, model, port in SERVERS:
            unit = ("systemd-run", "--quiet", "--collect", f"--unit=stand-in-{name}")
            LabHost(host).read(*unit, "python3", "-c", script, str(port), model, f"{name}@{host}")
    directory = tmp_path_factory.mktemp("gateway")
    told = directory / "told.json"
    variables = {
        "planned": {host: planned(host, where[host]) for host in HOSTS},
        "told_file": str(told),
        "gateway_secrets_directory": str(directory / "secrets"),
        "gateway_keys": [{"name": "default"}, {"name": "narrow", "key": NARROW, "servers": ["large"]}],
        "model_server_api_key": UPSTREAM,
    }
    file = directory / "variables.json"
    file.write_text(json.dumps(variables))
    done = run("ansible-playbook", str(HERE / "gateway.yml"), "-e", f"@{file}")
    assert done.status == 0, done.output[-4000:]
    found = json.loads(told.read_text())
    yield Deployed(found["base_url"], found["ca_file"], found["keys"]["default"][0])
    run("scripts/lab", "down", "lab-2", "gateway-1")


def chat(model: str, length: int = 0) -> str:
    """Return a chat as OpenAI's client writes it: messages first."""
    return json.dumps({"messages": [{"role": "user", "content": "x" * length}], "model": model})


def test_the_model_in_the_body_decides_between_servers_of_a_kind(gateway: Deployed) -> None:
    assert gateway.reached("/v1/chat/completions", chat("small-model")).startswith("small@")
    assert gateway.reached("/v1/chat/completions", chat("org/large-model")).startswith("large@")
    assert gateway.reached("/v1/chat/completions", chat("small-model", 100_000)).startswith("small@")


def test_an_unknown_model_is_answered_with_those_there_are(gateway: Deployed) -> None:
    answer = gateway.post("/v1/chat/completions", chat("other"))
    assert answer.status_code == 404
    error = answer.json()["error"]
    assert "small-model (also at " in error["message"]
    assert "org/large-model (also at " in error["message"]
    assert error["code"] == "model_not_found"
    assert error["request_id"] == answer.headers["x-request-id"]


def test_a_model_behind_what_is_looked_at_is_refused_with_the_urls_that_need_no_look(gateway: Deployed) -> None:
    body = chat("small-model", 8 << 20)
    # Python's requests sees no answer to a body that is refused half way, over TLS; curl and httpx do.
    first = '{"model": "small-model", ' + body.removeprefix("{")
    assert gateway.reached("/v1/chat/completions", first).startswith("small@")
    assert gateway.reached("/servers/small/v1/chat/completions", body).startswith("small@")
    short = gateway.post("/v1/chat/completions", {"messages": []})
    assert short.status_code == 413
    assert "/servers/large/v1" in short.json()["error"]["message"]


def test_a_body_of_32_mib_goes_through_whole(gateway: Deployed) -> None:
    body = chat("small-model", 32 << 20)
    answer = gateway.post("/servers/small/v1/chat/completions", body)
    assert answer.json()["bytes"] == len(body)


def test_a_key_for_one_server_of_a_kind_needs_no_model_in_sight(gateway: Deployed) -> None:
    assert gateway.reached("/v1/chat/completions", chat("org/large-model", 8 << 20), NARROW).startswith("large@")


def test_a_key_reaches_no_other_servers_and_does_not_see_them(gateway: Deployed) -> None:
    assert gateway.post("/servers/small/v1/chat/completions", chat("small-model"), NARROW).status_code == 403
    refused = gateway.post("/rerank", {"model": "rerank-model"}, NARROW)
    assert refused.status_code == 404
    assert "rerank-model" not in refused.text
    listed = requests.get(
        f"{gateway.base_url}/v1/models",
        headers={"Authorization": f"Bearer {NARROW}"},
        verify=gateway.ca_file,
        timeout=30,
    )
    assert [one["id"] for one in listed.json()["data"]] == ["org/large-model"]


def test_replicas_share_the_work_and_each_has_a_url(gateway: Deployed) -> None:
    assert {gateway.reached("/rerank", {}) for _ in range(20)} == {"rerank@lab-1", "rerank@lab-2"}
    for host in HOSTS:
        assert {gateway.reached(f"/servers/rerank@{host}/rerank", {}) for _ in range(5)} == {f"rerank@{host}"}


def test_vllm_is_sent_its_own_key_and_nothing_of_the_client_s(gateway: Deployed) -> None:
    answer = gateway.post("/servers/rerank/v2/rerank?top=1", {"query": "x"})
    got = answer.json()
    headers = {name.lower(): value for name, value in got["headers"].items()}
    assert got["path"] == "/v2/rerank"
    assert headers["authorization"] == f"Bearer {UPSTREAM}"
    assert headers["x-request-id"] == answer.headers["x-request-id"]
    assert set(headers) <= {"host", "content-type", "content-length", "accept", "authorization", "x-request-id"}


def test_a_drained_replica_gets_nothing_until_it_is_restored_also_over_a_reload(gateway: Deployed) -> None:
    which = ["-e", json.dumps({"server": "rerank", "host": "lab-1"})]
    drained = run("ansible-playbook", "playbooks/drain.yml", *which)
    assert drained.status == 0, drained.output[-2000:]
    assert {gateway.reached("/rerank", {}) for _ in range(10)} == {"rerank@lab-2"}
    assert gateway.post("/servers/rerank@lab-1/rerank", {}).status_code == 503
    LabHost("gateway-1").read("systemctl", "reload", "vllm-gateway")
    assert {gateway.reached("/rerank", {}) for _ in range(10)} == {"rerank@lab-2"}
    restored = run("ansible-playbook", "playbooks/restore.yml", *which)
    assert restored.status == 0, restored.output[-2000:]
    assert {gateway.reached("/rerank", {}) for _ in range(20)} == {"rerank@lab-1", "rerank@lab-2"}


def test_a_replica_that_is_gone_is_left_out_without_an_error(gateway: Deployed) -> None:
    LabHost("lab-2").read("systemctl", "stop", "stand-in-small")
    wait_until(lambda: gateway.reached("/v1/chat/completions", chat("small-model")) == "small@lab-1", 10)
    assert {gateway.reached("/v1/chat/completions", chat("small-model")) for _ in range(20)} == {"small@lab-1"}
