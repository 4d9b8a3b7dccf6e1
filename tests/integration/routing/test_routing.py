"""A gateway on a host of its own, before two hosts with replicas and with two servers of one kind.

What is tried is the way of a request, so the servers are stand-ins that tell what reached them; three kinds of real
vLLM behind a gateway are tried in tests/integration/gateway.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import ssl
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from tests.integration.conftest import LabHost, make_host, run, wait_until
from tests.integration.gateway.lab_gateway import ASK_SOCKET, SOCKET

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
ONE = "sk-one-at-a-time-0123456789"
UPSTREAM = "sk-between-gateway-and-servers"
VLLM_HEADERS = {"host", "content-type", "content-length", "accept", "authorization", "x-request-id"}


@dataclass(frozen=True)
class Deployed:
    """The gateway, as a client knows it."""

    base_url: str
    ca_file: str
    key: str
    variables: Path

    def deploy(self, *options: str, without: str = "") -> str:
        """Run the role again, for all servers or all but one; return Ansible's recap of the gateway."""
        planned = json.loads(self.variables.read_text())["planned"]
        fewer = {host: [one for one in servers if one["name"] != without] for host, servers in planned.items()}
        variables = ("-e", f"@{self.variables}", "-e", json.dumps({"planned": fewer}))
        done = run("ansible-playbook", str(HERE / "gateway.yml"), *variables, *options)
        assert done.status == 0, done.output[-4000:]
        return next(line for line in done.output.splitlines() if line.startswith("gateway-1 "))

    def post(
        self, path: str, body: dict[str, Any] | str, key: str = "", more: dict[str, str] | None = None, **how: Any
    ) -> requests.Response:
        """Send a request; a body that is text goes as it is written."""
        return requests.post(
            self.base_url + path,
            data=body if isinstance(body, str) else json.dumps(body),
            headers={"Authorization": f"Bearer {key or self.key}", "Content-Type": "application/json", **(more or {})},
            verify=self.ca_file,
            timeout=30,
            **how,
        )

    def begin(self, path: str, length: int, parts: Iterable[bytes] = ()) -> http.client.HTTPResponse:
        """Send parts of a body; return what is answered to them.

        Python's requests sends the whole body first, and is not told why it is cut off.
        """
        url = urlsplit(self.base_url)
        trusting = ssl.create_default_context(cafile=self.ca_file)
        connection = http.client.HTTPSConnection(url.hostname or "", url.port, context=trusting, timeout=30)
        headers = {"authorization": f"Bearer {self.key}", "content-length": str(length)}
        connection.request("POST", path, body=parts, headers=headers)
        return connection.getresponse()

    def reached(self, path: str, body: dict[str, Any] | str, key: str = "") -> str:
        """Return which server a request reached."""
        answer = self.post(path, body, key)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["name"])


def addresses() -> dict[str, str]:
    """Return the addresses of the lab's hosts."""
    found = json.loads(run("ansible-inventory", "--list").output)["_meta"]["hostvars"]
    return {name: str(variables["ansible_host"]) for name, variables in found.items()}


def logged(host: LabHost, key: str) -> list[dict[str, Any]]:
    """Return what the gateway logged of the requests with a key."""
    lines = host.read("journalctl", "--output=cat", "--unit=vllm-gateway").splitlines()
    found = [json.loads(line) for line in lines if line.startswith("{")]
    return [one for one in found if one.get("key") == key]


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
        "gateway_keys": [
            {"name": "default"},
            {"name": "narrow", "key": NARROW, "servers": ["large"]},
            {"name": "one", "key": ONE, "concurrent_requests": 1},
        ],
        "model_server_api_key": UPSTREAM,
    }
    file = directory / "variables.json"
    file.write_text(json.dumps(variables))
    # Somebody's own HAProxy is there already.
    LabHost("gateway-1").read("sh", "-c", "apt-get -qq update && apt-get -qq install --yes haproxy")
    for options in (["--check"], []):
        done = run("ansible-playbook", str(HERE / "gateway.yml"), "-e", f"@{file}", *options)
        assert done.status == 0, done.output[-4000:]
    found = json.loads(told.read_text())
    yield Deployed(found["base_url"], found["ca_file"], found["keys"]["default"][0], file)
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


@pytest.mark.parametrize("length", [130_000, 8 << 20, (64 << 20) - 1000], ids=["130 kB", "8 MiB", "64 MiB"])
def test_the_model_is_found_behind_however_long_a_text(gateway: Deployed, length: int) -> None:
    for model, server in (("small-model", "small@"), ("org/large-model", "large@")):
        body = chat(model, length)
        got = gateway.post("/v1/chat/completions", body).json()
        assert got["name"].startswith(server)
        assert got["bytes"] == len(body)


def test_a_long_body_that_needs_no_look_goes_through_whole(gateway: Deployed) -> None:
    body = chat("small-model", 32 << 20)
    first = '{"model": "small-model", ' + body.removeprefix("{")
    for path, whole in (("/servers/small/v1/chat/completions", body), ("/v1/chat/completions", first)):
        got = gateway.post(path, whole).json()
        assert got["name"].startswith("small@")
        assert got["bytes"] == len(whole)


def test_a_body_beyond_the_limit_is_told_so(gateway: Deployed) -> None:
    # The length is enough to know.
    answer = gateway.begin("/v1/chat/completions", (64 << 20) + 1)
    assert (answer.status, json.load(answer)["error"]["code"]) == (413, "request_too_large")


@pytest.mark.parametrize("length", [0, 1 << 20], ids=["short", "long"])
def test_a_body_that_names_no_model_or_an_unknown_one_is_answered_with_those_there_are(
    gateway: Deployed, length: int
) -> None:
    for body, status, code in (
        (json.dumps({"messages": "x" * length}), 400, "model_missing"),
        (json.dumps({"messages": "x" * length, "model": 7}), 404, "model_not_found"),
        (json.dumps({"messages": "x" * length, "model": "a\r\nx-other: 1"}), 404, "model_not_found"),
        (chat("m" * 5000, length), 404, "model_not_found"),
    ):
        answer = gateway.post("/v1/chat/completions", body)
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (status, code)
        assert "/servers/large/v1" in error["message"]
        assert error["request_id"] == answer.headers["x-request-id"]


def test_a_long_request_is_one_request_in_limits_and_log_and_with_one_id(gateway: Deployed) -> None:
    answer = gateway.post("/v1/chat/completions", chat("small-model", 1 << 20), ONE)
    assert answer.status_code == 200, answer.text
    headers = {name.lower(): value for name, value in answer.json()["headers"].items()}
    identity = answer.headers["x-request-id"]
    assert headers["x-request-id"] == identity
    assert set(headers) <= VLLM_HEADERS
    host = LabHost("gateway-1")
    gateway.reached("/v1/chat/completions", chat("small-model"), ONE)
    wait_until(lambda: len(logged(host, "one")) > 1, 10)
    long, short = logged(host, "one")
    assert (long["request_id"], long["model"], long["status"]) == (identity, "small-model", 200)
    assert long["bytes_in"] > 1 << 20
    # The client's address, not one of the other HAProxy.
    assert long["client"] == short["client"]


def test_somebody_s_own_haproxy_is_left_alone(gateway: Deployed) -> None:
    units = ["haproxy.service", "vllm-gateway.service"]
    assert LabHost("gateway-1").active(units) == units


def test_the_other_haproxy_has_little_to_reach(gateway: Deployed) -> None:
    host = LabHost("gateway-1")
    exposure = float(host.read("systemd-analyze", "security", "--no-pager", "vllm-gateway-lookup.service").split()[-3])
    assert exposure < 3.0
    assert "vllm-gateway-lookup" not in host.read("ss", "--listening", "--tcp", "--udp", "--processes")


def test_a_slow_upload_is_waited_for(gateway: Deployed) -> None:
    """Longer than the 15 s in which a request must have begun."""
    body = chat("small-model", 900_000).encode()

    def slowly() -> Iterator[bytes]:
        for begin in range(0, len(body), 50_000):
            yield body[begin : begin + 50_000]
            time.sleep(1)

    answer = gateway.begin("/v1/chat/completions", len(body), slowly())
    assert answer.status == 200
    assert json.load(answer)["bytes"] == len(body)


def test_a_client_cannot_say_that_its_request_was_looked_at(gateway: Deployed) -> None:
    spoof = {"x-vllm-gateway-model": "b3JnL2xhcmdlLW1vZGVs"}
    for length in (0, 1 << 20):
        answer = gateway.post("/v1/chat/completions", chat("small-model", length), more=spoof)
        assert answer.json()["name"].startswith("small@")


def test_a_stream_after_a_long_request_comes_as_it_is_made_and_ends_with_its_client(gateway: Deployed) -> None:
    body = '{"stream": true, ' + chat("small-model", 1 << 20).removeprefix("{")
    with gateway.post("/v1/chat/completions", body, stream=True) as answer:
        assert answer.status_code == 200
        began = time.monotonic()
        coming = answer.iter_content(6)
        pieces = [next(coming) for _ in range(5)]
    assert pieces == [b"piece "] * 5
    assert 0.5 < time.monotonic() - began < 5

    sent: list[str] = []

    def told() -> bool:
        logs = [LabHost(host).do("journalctl", "-o", "cat", "-u", "stand-in-small").output for host in HOSTS]
        sent[:] = re.findall(r"small@\S+ sent (\d+) pieces", "".join(logs))
        return bool(sent)

    wait_until(told, 15)
    assert int(sent[0]) < 90


def test_a_long_request_that_no_server_is_free_for_is_told_to_come_again(gateway: Deployed) -> None:
    def let(state: str) -> None:
        for name in HOSTS:
            command = f"set server server_large/{name} state {state}"
            LabHost("gateway-1").read("python3", "-c", ASK_SOCKET, SOCKET, command)

    let("maint")
    try:
        refused = gateway.post("/v1/chat/completions", chat("org/large-model", 8 << 20))
    finally:
        let("ready")
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "no_server")
    assert int(refused.headers["retry-after"]) > 0


def test_without_the_other_haproxy_long_requests_are_told_to_come_again_and_others_go_on(gateway: Deployed) -> None:
    host = LabHost("gateway-1")
    host.read("systemctl", "stop", "vllm-gateway-lookup")
    try:
        long = gateway.begin("/v1/chat/completions", 1 << 20, [b"{" + b" " * 140_000])
        assert (long.status, json.load(long)["error"]["code"]) == (503, "no_server")
        assert gateway.reached("/v1/chat/completions", chat("small-model")).startswith("small@")
    finally:
        host.read("systemctl", "restart", "vllm-gateway")
    # It comes with the gateway, and comes again.
    assert gateway.reached("/v1/chat/completions", chat("small-model", 1 << 20)).startswith("small@")

    def main_pid() -> str:
        return host.read("systemctl", "show", "--property=MainPID", "--value", "vllm-gateway-lookup")

    killed = main_pid()
    host.read("systemctl", "kill", "--signal=KILL", "vllm-gateway-lookup")
    wait_until(lambda: main_pid() not in ("0", killed) and host.active(["vllm-gateway-lookup"]) != [], 10)
    assert gateway.reached("/v1/chat/completions", chat("small-model", 1 << 20)).startswith("small@")


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
    assert set(headers) <= VLLM_HEADERS


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


def test_the_other_haproxy_is_there_only_where_a_kind_has_several_servers(gateway: Deployed) -> None:
    def there() -> bool:
        return LabHost("gateway-1").active(["vllm-gateway-lookup"]) != []

    assert "changed=0 " in gateway.deploy()
    gateway.deploy(without="small")
    assert not there()
    assert gateway.reached("/v1/chat/completions", chat("org/large-model", 1 << 20)).startswith("large@")
    gateway.deploy("--check")
    assert not there()
    gateway.deploy()
    assert gateway.reached("/v1/chat/completions", chat("small-model", 1 << 20)).startswith("small@")
