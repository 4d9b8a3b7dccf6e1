"""Starts that cannot succeed end clearly, slow ones go on, and every stop ends: rows of the table in docs/units.md.

Tests stand in an order in which each finds the server as it needs it, since a start takes most of the time.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from typing import Any

import pytest
import requests

from tests.integration.units.model_unit import (
    DRAIN_SECONDS,
    SLACK_SECONDS,
    WATCHDOG_SECONDS,
    ModelUnit,
    embeds,
    generation,
    wait_until,
)

pytestmark = [pytest.mark.integration, pytest.mark.serving]


def is_down(unit: ModelUnit) -> bool:
    return unit.get("ActiveState") in ("failed", "inactive")


def assert_stopped_cleanly(unit: ModelUnit) -> None:
    assert unit.show("ActiveState", "Result") == {"ActiveState": "inactive", "Result": "success"}, unit.journal()
    assert unit.pids() == []


def test_a_wrong_flag_ends_the_start_and_is_not_tried_again(stopped: ModelUnit) -> None:
    with stopped.changed("--runner pooling", "--runner pooling --no-such-flag"):
        stopped.host.do("systemctl", "start", stopped.name)
        time.sleep(8)
        assert stopped.show("ActiveState", "ExecMainStatus", "NRestarts") == {
            "ActiveState": "failed",
            "ExecMainStatus": "2",
            "NRestarts": "0",
        }
        assert "unrecognized arguments: --no-such-flag" in stopped.journal()


def test_a_missing_model_is_named_and_not_waited_for(stopped: ModelUnit) -> None:
    path = "/var/lib/vllm-fleet/models/lab--tiny-xlm-roberta-embedding"
    stopped.host.read("mv", path, f"{path}.away")
    try:
        assert stopped.host.do("systemctl", "start", stopped.name).status != 0
        assert stopped.get("ActiveState") == "failed"
        assert stopped.status.startswith(f"cannot start: model {path} does not exist; fetch it: ansible-playbook")
    finally:
        stopped.host.read("mv", f"{path}.away", path)


def test_a_stop_while_loading_is_clean(stopped: ModelUnit) -> None:
    stopped.host.read("systemctl", "start", "--no-block", stopped.name)
    wait_until(lambda: "loading the model" in stopped.status, 60)
    time.sleep(4)
    print(f"stop while loading: {stopped.stop(DRAIN_SECONDS + SLACK_SECONDS):.0f} s")
    assert_stopped_cleanly(stopped)


def test_a_load_longer_than_systemd_s_own_limit_goes_on(stopped: ModelUnit) -> None:
    """The limit is 5 s here; a load longer than systemd's default of 90 s would make the test that long."""
    slow = '-- /bin/sh -c \'sleep 15; exec "$$0" "$$@"\' /'
    with stopped.changed("-- /", slow, "TimeoutStartSec=5"):
        began = time.monotonic()
        stopped.start()
        assert time.monotonic() - began > 15
        assert stopped.get("NRestarts") == "0"


def test_units_are_hardened(embedding: ModelUnit, llm: ModelUnit) -> None:
    for unit in (embedding, llm):
        last = unit.host.do("systemd-analyze", "security", "--no-pager", unit.name).output.splitlines()[-1]
        assert float(last.split()[-3]) <= 3.0, last


def test_the_watchdog_is_the_declared_one(embedding: ModelUnit) -> None:
    assert embedding.get("WatchdogUSec") == f"{WATCHDOG_SECONDS}s"


def test_a_stop_of_an_idle_server_is_clean_and_quick(embedding: ModelUnit) -> None:
    print(f"stop while idle: {embedding.stop(DRAIN_SECONDS + SLACK_SECONDS):.0f} s")
    assert_stopped_cleanly(embedding)


def test_a_taken_port_is_named_and_the_server_starts_once_it_is_free(stopped: ModelUnit, address: str) -> None:
    listen = ("/usr/bin/python3", "-m", "http.server", str(stopped.port))
    stopped.host.read("systemd-run", "--unit=squatter", "--collect", *listen)
    try:
        listening = ("ss", "--no-header", "--listening", "--tcp", f"sport = :{stopped.port}")
        wait_until(lambda: stopped.host.read(*listening) != "", 20)
        stopped.host.read("systemctl", "start", "--no-block", stopped.name)
        wait_until(lambda: "waiting for port 32805, taken by a process of user root" in stopped.status, 30)
    finally:
        stopped.host.read("systemctl", "stop", "squatter")
    stopped.wait_until_serving()
    assert embeds(address, stopped)


def test_a_stop_of_a_hung_server_ends(embedding: ModelUnit, address: str) -> None:
    embedding.signal("engine", "STOP")
    client = threading.Thread(target=ask_in_vain, args=[address, embedding], daemon=True)
    client.start()
    time.sleep(1)
    print(f"stop of a hung server: {embedding.stop(DRAIN_SECONDS + SLACK_SECONDS):.0f} s")
    assert_stopped_cleanly(embedding)


def ask_in_vain(address: str, unit: ModelUnit) -> None:
    try:
        embeds(address, unit)
    except requests.RequestException:
        return


def test_a_stop_does_not_wait_for_a_client_that_never_ends(embedding: ModelUnit, address: str) -> None:
    """A request whose body never comes keeps the API server waiting."""
    run_id = embedding.run_id
    with socket.create_connection((address, embedding.port)) as client:
        client.sendall(b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
        print(f"stop with a client that never ends: {embedding.stop(DRAIN_SECONDS + SLACK_SECONDS):.0f} s")
    assert_stopped_cleanly(embedding)
    assert "still not ended" in embedding.journal(run_id)


def test_a_stop_waits_for_a_stream_to_its_end(llm: ModelUnit, address: str) -> None:
    url, tokens = f"http://{address}:{llm.port}/v1/completions", 200
    with requests.post(url, json=generation(tokens, stream=True), stream=True, timeout=120) as answer:
        lines = answer.iter_lines()
        next(lines)
        llm.host.read("systemctl", "stop", "--no-block", llm.name)
        rest = [line.removeprefix(b"data: ") for line in lines if line]
    assert rest[-1] == b"[DONE]"
    usage: dict[str, Any] = json.loads(rest[-2])["usage"]
    assert usage["completion_tokens"] == tokens
    assert {choice["finish_reason"] for line in rest[:-2] for choice in json.loads(line)["choices"]} == {None, "length"}
    wait_until(lambda: is_down(llm), DRAIN_SECONDS + SLACK_SECONDS, llm.journal)
    assert_stopped_cleanly(llm)


def test_a_stop_leaves_room_for_a_start_on_the_same_device(embedding: ModelUnit, llm: ModelUnit) -> None:
    """Memory that a stop gives back would falsify what the start measures."""
    llm.host.read("systemctl", "restart", "--no-block", llm.name)
    wait_until(lambda: llm.get("ActiveState") == "activating" and "loading the model" in llm.status, 90)
    embedding.host.read("systemctl", "stop", "--no-block", embedding.name)
    wait_until(lambda: "waiting until another server has started on cpu" in embedding.status, 30)
    while llm.get("ActiveState") == "activating" and not is_down(embedding):
        time.sleep(0.5)
    assert llm.is_serving(), llm.status
    wait_until(lambda: is_down(embedding), DRAIN_SECONDS + SLACK_SECONDS, embedding.journal)
    assert_stopped_cleanly(embedding)
