"""A gateway is reloaded, its keys and certificate are replaced, and servers are taken out, while it is in use."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import ROOT, Done, run, wait_until
from tests.integration.gateway.lab_gateway import CHAT, FETCH, UNIT, LabGateway, chat, result

pytestmark = [pytest.mark.integration, pytest.mark.serving]

SECRETS = ROOT / ".vllm-fleet/secrets/lab"
QUESTION = {"model": "tiny-reranker", "query": "capital", "documents": ["Paris"]}


def gateway_run(*options: str, **variables: Any) -> Done:
    """Have the gateway as it is declared, with some variables otherwise."""
    return run("ansible-playbook", "playbooks/gateway.yml", "-e", json.dumps(variables), *options)


def keys(*names: str) -> list[dict[str, str]]:
    return [{"name": name} for name in names]


@contextmanager
def asked_all_the_time(gateway: LabGateway, key: str | None = None, **request: Any) -> Iterator[dict[str, Any]]:
    """Send requests during the with-block, short ones by default; it ends with what became of them.

    Few enough that Ansible has a part of the two processors as well.
    """
    found: dict[str, Any] = {}
    asked = {"path": "/rerank", "body": QUESTION, "at_once": 2, "pause": 0.2, "wait": 120} | request
    with gateway.running("load", door=gateway.door(key), **asked) as process:
        time.sleep(1)
        yield found
        assert process.stdin is not None
        process.stdin.write("over\n")
        process.stdin.flush()
        found.update(result(process))


def assert_none_was_lost(found: dict[str, Any], at_least: int = 20) -> None:
    assert found["failures"] == []
    assert set(found["statuses"]) == {"200"}
    assert found["statuses"]["200"] >= at_least


def status(gateway: LabGateway, key: str, path: str = "/v1/models") -> int:
    (row,) = gateway.tool("doors", methods=["GET"], paths=[path], credentials={"": f"Authorization: Bearer {key}\r\n"})
    return int(row[3])


def workers(gateway: LabGateway) -> int:
    """Return how many processes of HAProxy serve clients: one, and those of before a reload that still have some."""
    pids = gateway.host.read("systemctl", "show", "--property=MainPID", "--value", UNIT)
    return len(gateway.host.do("pgrep", "-P", pids).output.split())


def test_a_reload_loses_neither_streams_nor_requests(gateway: LabGateway) -> None:
    with asked_all_the_time(gateway) as short, gateway.holding(5) as whole:
        for _ in range(3):
            gateway.host.read("systemctl", "reload", UNIT)
            time.sleep(1)
        during = workers(gateway)
    assert whole == [True] * 5
    assert_none_was_lost(short)
    assert during > 1, "the streams were over before the reload"
    # None of them stays once its last stream has ended.
    wait_until(lambda: workers(gateway) == 1, 20)


@pytest.fixture
def second_key(gateway: LabGateway) -> Iterator[str]:
    """A key of the name rotated, beside default; gone afterwards."""
    made = gateway_run(gateway_keys=keys("default", "rotated"))
    assert made.status == 0, made.output[-3000:]
    yield run("scripts/gateway-keys", "show", "rotated").output.strip()
    gone = gateway_run()
    (SECRETS / "keys/rotated").unlink()
    assert gone.status == 0, gone.output[-3000:]


def test_a_key_is_rotated_without_a_lost_request(gateway: LabGateway, second_key: str) -> None:
    def rotate(command: str) -> None:
        done = run("scripts/gateway-keys", command, "rotated")
        assert done.status == 0, done.output
        done = gateway_run(gateway_keys=keys("default", "rotated"))
        assert done.status == 0, done.output[-3000:]

    with asked_all_the_time(gateway, second_key) as with_old:
        rotate("rotate")
        new = run("scripts/gateway-keys", "show", "rotated").output.strip()
        assert new != second_key
        assert (status(gateway, second_key), status(gateway, new)) == (200, 200)
    with asked_all_the_time(gateway, new) as with_new:
        rotate("retire")
    assert_none_was_lost(with_old)
    assert_none_was_lost(with_new)
    assert (status(gateway, second_key), status(gateway, new), status(gateway, gateway.key)) == (401, 200, 200)


def secret_lines() -> dict[str, str]:
    """Return every secret that is kept on the controller, by its file: keys, and a line of each private key."""
    found = {}
    for file in sorted(SECRETS.rglob("*")):
        text = file.read_text() if file.is_file() else ""
        if file.parent.name == "keys":
            found |= {f"{file.name} {number}": line for number, line in enumerate(text.split())}
        for number, body in enumerate(re.findall(r"PRIVATE KEY-----\n(\S+)\n", text)):
            found[f"{file.name} {number}"] = body
    return found


def test_secrets_are_found_nowhere_but_in_their_files(gateway: LabGateway) -> None:
    secrets = secret_lines()
    assert len(secrets) >= 3, "a key, an authority and a certificate"
    found = [tuple(one) for one in gateway.tool("leaks", gateway.host, secrets=secrets)]
    places = {(where, mode) for _, where, mode in found}
    assert places <= {("/etc/vllm-gateway/tls/gateway.pem", "0o600")}, found
    for user in ("vllm", "nobody"):
        assert gateway.host.do("runuser", "-u", user, "--", "ls", "/etc/vllm-gateway").status != 0
        assert gateway.host.do("runuser", "-u", user, "--", "ls", "/run/vllm-gateway").status != 0


def test_secrets_are_not_shown_by_runs_and_are_private_on_the_controller(gateway: LabGateway) -> None:
    secrets = secret_lines()
    shown = gateway_run("--check", "--diff", "-vvv", gateway_keys=[{"name": "default", "key": "sk-" + "7" * 40}]).output
    assert "sk-" + "7" * 40 not in shown.replace(json.dumps({"name": "default", "key": "sk-" + "7" * 40}), "")
    assert [name for name, secret in secrets.items() if secret in shown] == []
    logs = [file for file in (ROOT / ".vllm-fleet/runs").rglob("*") if file.is_file()]
    assert logs != []
    told = {(name, file.name) for file in logs for name, secret in secrets.items() if secret in _text(file)}
    assert told == set()
    for file in (SECRETS, *SECRETS.rglob("*")):
        if file.suffix not in (".crt", ".pem") or "PRIVATE" in _text(file):
            assert file.stat().st_mode & 0o077 == 0, file


def _text(file: Path) -> str:
    return file.read_text(errors="replace") if file.is_file() else ""


def serial(gateway: LabGateway) -> str:
    """Return the certificate that clients are shown."""
    return str(gateway.tool("certificate")["certificate"])


def test_a_certificate_is_renewed_without_a_lost_connection(gateway: LabGateway) -> None:
    before = serial(gateway)
    with asked_all_the_time(gateway) as short:
        done = gateway_run(gateway_names=["renewed.example"])
        assert done.status == 0, done.output[-3000:]
        after = serial(gateway)
    assert after != before
    assert_none_was_lost(short)


@pytest.fixture
def put_back(gateway: LabGateway) -> Iterator[None]:
    """The language model takes requests after the test, however that ended."""
    yield
    gateway.ask_socket(f"set server server_llm/{gateway.host.name} state ready")


@pytest.mark.usefixtures("put_back")
def test_a_drained_server_ends_its_work_and_takes_no_more_until_it_is_restored(gateway: LabGateway) -> None:
    place = ["-e", "server=llm", "-e", f"host={gateway.host.name}"]
    with asked_all_the_time(gateway, path=CHAT, body=chat(200)) as found:
        drained = run("ansible-playbook", "playbooks/drain.yml", *place)
        state = gateway.stat("llm")
        time.sleep(1)
    assert drained.status == 0, drained.output[-3000:]
    assert (state["scur"], state["status"].split()[0]) in {("0", "DRAIN"), ("0", "MAINT")}
    # Each request was answered whole, or was refused in words.
    assert found["failures"] == []
    assert set(found["statuses"]) == {"200", "503"}
    assert (set(found["codes"]), found["unshaped"]) == ({"no_server"}, 0)
    assert all(int(seconds) >= 1 for seconds in found["retry_after"])
    gateway.host.read("systemctl", "reload", UNIT)
    (still,) = gateway.tool("stream", path=CHAT, body=chat(5), at_once=1)
    assert still["status"] == 503, "a reload put it back"
    restored = run("ansible-playbook", "playbooks/restore.yml", *place)
    assert restored.status == 0, restored.output[-3000:]
    (served,) = gateway.tool("stream", path=CHAT, body=chat(5), at_once=1)
    assert served["status"] == 200


def test_the_access_log_tells_who_asked_what_and_not_the_words(gateway: LabGateway) -> None:
    began = gateway.host.read("date", "+@%s")
    body = QUESTION | {"query": "the prompt of a secret project"}
    gateway.tool("load", path="/v1/rerank", body=body, at_once=1, count=1)
    gateway.tool("load", path="/v1/rerank?prompt=confidential", body=body, at_once=1, count=1, key="sk-confidential")
    journal = ""

    def lines() -> list[dict[str, Any]]:
        nonlocal journal
        journal = gateway.host.read("journalctl", "--output=cat", f"--since={began}", f"--unit={UNIT}")
        every = [json.loads(line) for line in journal.splitlines() if line.startswith("{")]
        return [line for line in every if line["path"] == "/v1/rerank"]

    wait_until(lambda: len(lines()) == 2, 10, lambda: journal)
    assert "secret project" not in journal
    assert "confidential" not in journal
    served, refused = lines()
    assert {"time", "request_id", "bytes_in", "bytes_out", "milliseconds"} <= served.keys()
    assert (served["key"], served["method"], served["status"]) == ("default", "POST", 200)
    assert (served["model"], served["server"]) == ("tiny-reranker", f"server_rerank/{gateway.host.name}")
    assert served["bytes_in"] > 100
    assert served["milliseconds"]["total"] > 0
    assert (refused["status"], refused["key"]) == (401, "-")


def test_metrics_and_statistics_are_for_the_host_itself(gateway: LabGateway) -> None:
    metrics = gateway.host.read("python3", "-c", FETCH, "http://127.0.0.1:8404/metrics")
    assert "haproxy_server_status" in metrics
    assert gateway.key not in metrics
    assert "<html" in gateway.host.read("python3", "-c", FETCH, "http://127.0.0.1:8404/stats").lower()
    assert gateway.tool("ports", address=gateway.address, ports=[8404, 8404])["open"] == []
