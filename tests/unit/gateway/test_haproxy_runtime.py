"""What a running HAProxy holds is brought in line by its admin socket: whole, once, and in words when it fails."""

from __future__ import annotations

import io
import json
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils import basic
from ansible.module_utils.testing import patch_module_args

from tests.load import load
from tests.unit.gateway.haproxy_socket import HAProxy, Listener
from vllm_fleet.gateway.authority import issue, make_authority, now

from ansible.module_utils import haproxy as client  # isort: skip

runtime_module = load("plugins/modules/gateway_runtime.py")
state_module = load("plugins/modules/gateway_server_state.py")

AUTHORITY = make_authority(now())
ONE, TWO = (pair.certificate + pair.key for pair in (issue(AUTHORITY, ["gpu-1"], now()) for _ in range(2)))
MODELS = json.dumps(
    {"object": "list", "data": [{"id": f"model {number}", "owned_by": "a  b;c\\"} for number in range(9)]}
)


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the socket and the files are, named relatively, as a socket's path must be short."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def haproxy(directory: Path) -> Iterator[HAProxy]:
    running = HAProxy({"keys.map": {"A": "default"}, "m.map": {"x": "1"}}, {"gateway.pem": ONE})
    listener = Listener(Path("admin.sock"), running)
    yield running
    listener.shutdown()
    listener.server_close()


def run(main: Callable[[], None], check_mode: bool = False, **arguments: Any) -> dict[str, Any]:
    """Run a module. Returns what it tells Ansible."""
    said, before = io.StringIO(), sys.stdout
    with patch_module_args({"socket": "admin.sock", **arguments, "_ansible_check_mode": check_mode}):
        sys.stdout = said
        try:
            main()
        except SystemExit:
            pass
        finally:
            sys.stdout = before
    result: dict[str, Any] = json.loads(said.getvalue())
    return result


def bring(check_mode: bool = False, **arguments: Any) -> dict[str, Any]:
    return run(runtime_module.main, check_mode, **arguments)


def held(haproxy: HAProxy, path: str) -> dict[str, str]:
    return dict(haproxy.maps[path][haproxy.current[path]])


def test_a_map_is_replaced_whole_and_once(haproxy: HAProxy) -> None:
    wanted = {"B": "team", "models": MODELS, "e": "a", "one": "1"}
    first, second = (bring(maps={"keys.map": wanted, "m.map": {"x": "1"}}) for _ in range(2))
    assert (first["changed"], first["maps"]) == (True, ["keys.map"])
    assert (second["changed"], second["maps"]) == (False, [])
    assert held(haproxy, "keys.map") == wanted
    assert [command for command in haproxy.asked if command.startswith("commit")] == ["commit map @1 keys.map"]


def test_500_keys_are_sent_in_pieces_that_fit_the_buffer(haproxy: HAProxy) -> None:
    wanted = {f"{number:064X}": f"team-{number}" for number in range(500)} | {"models": MODELS}
    assert bring(maps={"keys.map": wanted})["changed"]
    assert held(haproxy, "keys.map") == wanted
    assert len([command for command in haproxy.asked if command.startswith("add")]) > 4


def test_a_map_may_become_empty(haproxy: HAProxy) -> None:
    assert bring(maps={"keys.map": {}})["changed"]
    assert held(haproxy, "keys.map") == {}


def test_entries_twice_in_the_running_map_are_a_difference(haproxy: HAProxy) -> None:
    haproxy.maps["keys.map"][0] = [("A", "default"), ("A", "default")]
    assert bring(maps={"keys.map": {"A": "default"}})["maps"] == ["keys.map"]
    assert haproxy.maps["keys.map"][1] == [("A", "default")]


def test_a_value_longer_than_the_buffer_leaves_the_map_as_it_was(haproxy: HAProxy) -> None:
    result = bring(maps={"keys.map": {"long": "y" * 30000}})
    assert "with 30030 bytes. Where that is more than its buffer (tune.bufsize)" in result["msg"]
    assert "yyy" not in result["msg"]
    assert held(haproxy, "keys.map") == {"A": "default"}


def test_somebody_elses_commit_in_between_is_noticed(haproxy: HAProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    real = client.read_map

    def raced(runtime: Any, path: str, version: str = "") -> Any:
        if version:
            haproxy.maps[path][int(version[1:])] = []  # HAProxy drops what is older than a version that is committed
        return real(runtime, path, version)

    monkeypatch.setattr(client, "read_map", raced)
    assert "somebody else replaces it, too. Run this again." in bring(maps={"keys.map": {"B": "b"}})["msg"]
    assert held(haproxy, "keys.map") == {"A": "default"}


@pytest.mark.parametrize(
    ("key", "value"), [("a b", "1"), ("#a", "1"), ("", "1"), ("a", ""), ("a", " 1"), ("a", "1 "), ("a", "1\n2")]
)
def test_what_a_map_cannot_hold_is_refused_before_anything_is_done(haproxy: HAProxy, key: str, value: str) -> None:
    result = bring(maps={"m.map": {"x": "2"}, "keys.map": {key: value}})
    assert result["msg"].startswith("keys.map: ")
    assert haproxy.asked == []
    assert not Path("m.map").exists()


def test_a_certificate_is_replaced_once(haproxy: HAProxy) -> None:
    assert bring(certificates={"gateway.pem": ONE})["certificates"] == []
    first, second = (bring(certificates={"gateway.pem": TWO}) for _ in range(2))
    assert (first["certificates"], second["certificates"]) == (["gateway.pem"], [])
    assert haproxy.certificates["gateway.pem"] == TWO
    assert haproxy.transaction is None


def test_another_chain_is_another_certificate(haproxy: HAProxy) -> None:
    assert bring(certificates={"gateway.pem": ONE + AUTHORITY.certificate})["certificates"] == ["gateway.pem"]


def test_a_transaction_left_open_for_another_file_gets_nothing_of_this_one(haproxy: HAProxy) -> None:
    haproxy.certificates["other.pem"] = ONE
    haproxy.transaction = ("other.pem", ONE)
    assert bring(certificates={"gateway.pem": TWO})["changed"]
    assert haproxy.certificates == {"gateway.pem": TWO, "other.pem": ONE}


@pytest.mark.parametrize(
    ("pem", "said"),
    [
        (TWO.partition("-----BEGIN PRIVATE")[0], "'set ssl cert gateway.pem' with: unable to load certificate from"),
        (
            TWO + "a wrong key\n",
            "'commit ssl cert gateway.pem' with: inconsistencies between private key and certificate",
        ),
        (TWO + AUTHORITY.certificate * 30, "more than its buffer"),
        ("nothing", "There is no certificate in PEM form"),
    ],
)
def test_a_certificate_that_is_not_taken_leaves_the_former_and_no_transaction(
    haproxy: HAProxy, pem: str, said: str
) -> None:
    result = bring(certificates={"gateway.pem": pem})
    assert said in result["msg"]
    assert "PRIVATE KEY" not in result["msg"]
    assert (haproxy.certificates["gateway.pem"], haproxy.transaction) == (ONE, None)


def test_check_mode_tells_and_changes_nothing(haproxy: HAProxy) -> None:
    result = bring(True, maps={"keys.map": {"B": "b"}}, certificates={"gateway.pem": TWO})
    assert (result["changed"], result["maps"], result["certificates"]) == (True, ["keys.map"], ["gateway.pem"])
    assert (held(haproxy, "keys.map"), haproxy.certificates) == ({"A": "default"}, {"gateway.pem": ONE})
    assert [command for command in haproxy.asked if not command.startswith("show")] == []
    assert not Path("keys.map").exists()


def test_files_are_written_as_haproxy_reads_them_for_their_owner_only(haproxy: HAProxy) -> None:
    result = bring(maps={"keys.map": {"B": "b c", "C": "d"}}, certificates={"gateway.pem": TWO})
    assert result["files"] == ["keys.map", "gateway.pem"]
    assert (Path("keys.map").read_text(), Path("gateway.pem").read_text()) == ("B b c\nC d\n", TWO)
    assert {Path(name).stat().st_mode & 0o777 for name in result["files"]} == {0o600}
    Path("keys.map").chmod(0o644)
    again = bring(maps={"keys.map": {"B": "b c", "C": "d"}}, certificates={"gateway.pem": TWO})
    assert (again["files"], again["maps"], again["changed"]) == (["keys.map"], [], True)
    assert Path("keys.map").stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in Path().iterdir()) == ["admin.sock", "gateway.pem", "keys.map"]


def test_what_the_running_haproxy_does_not_know_yet_is_left_to_its_next_start(haproxy: HAProxy) -> None:
    result = bring(maps={"new.map": {"x": "1"}}, certificates={"new.pem": ONE})
    assert (result["files"], result["maps"], result["certificates"]) == (["new.map", "new.pem"], [], [])


@pytest.mark.parametrize("check_mode", [False, True])
def test_without_a_haproxy_only_the_files_are_written(directory: Path, check_mode: bool) -> None:
    result = bring(check_mode, maps={"keys.map": {"B": "b"}})
    assert (result["changed"], result["files"], result["maps"], result["description"]) == (True, ["keys.map"], [], "")
    assert Path("keys.map").exists() != check_mode


def test_a_haproxy_that_does_not_answer_is_told_of(directory: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("admin.sock")
        listener.listen()
        result = bring(maps={"keys.map": {"B": "b"}}, timeout=1)
    assert result["msg"] == ("HAProxy does not answer at admin.sock: timed out. Look at: systemctl status vllm-gateway")


def test_neither_results_nor_the_log_hold_what_is_in_maps(haproxy: HAProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[str] = []
    monkeypatch.setattr(basic.AnsibleModule, "log", lambda _self, text, **_options: logged.append(str(text)))
    result = bring(maps={"keys.map": {"HASH": "Bearer secret"}, "m.map": {"x": "m"}}, certificates={"gateway.pem": TWO})
    assert result["maps"] == ["keys.map", "m.map"], "values must not be cut out of paths either"
    said = json.dumps(result) + "".join(logged)
    assert logged, "nothing was logged at all"
    assert [text for text in ("secret", "HASH", "PRIVATE KEY") if text in said] == []


def set_state(state: str, check_mode: bool = False, host: str = "gpu-2", **arguments: Any) -> dict[str, Any]:
    fixed = {"server": "llm", "host": host, "state": state, "timeout": 1, "master_socket": "master.sock"}
    return run(state_module.main, check_mode, **fixed, **arguments)


@pytest.fixture
def no_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_module, "INTERVAL", 0.05)


def test_a_server_is_drained_when_what_it_works_on_is_answered(haproxy: HAProxy, no_wait: None) -> None:
    def finish() -> None:
        haproxy.servers["gpu-2"][2] = 0

    threading.Timer(0.3, finish).start()
    first = set_state("drained")
    assert (first["changed"], first["drained"], first["up"], first["sessions"]) == (True, True, False, 0)
    second = set_state("drained")
    assert (second["changed"], second["status"]) == (False, "DRAIN")
    assert [command for command in haproxy.asked if command.startswith("set")] == [
        "set server server_llm/gpu-2 state drain"
    ]
    assert haproxy.servers["gpu-1"][0] == 0


def test_what_former_processes_have_under_way_counts_too(haproxy: HAProxy, no_wait: None) -> None:
    """A reload leaves them to end in peace; a restart of the server would not."""
    haproxy.servers["gpu-2"][2] = 1
    haproxy.former = {6142: {"gpu-1": 5, "gpu-2": 2}, 6150: {"gpu-1": 1}}
    Path("master.sock").symlink_to("admin.sock")
    assert set_state("present")["sessions"] == 3
    haproxy.servers["gpu-2"][2] = 0
    assert "still works on 2 requests" in set_state("drained")["msg"]
    haproxy.former = {}
    assert set_state("drained")["sessions"] == 0


def test_a_server_that_stays_busy_stays_taken_out(haproxy: HAProxy, no_wait: None) -> None:
    haproxy.servers["gpu-2"][3] = 2
    result = set_state("drained")
    assert "Server llm on gpu-2" in result["msg"]
    assert "still works on 5 requests after 1 s. It gets no new ones" in result["msg"]
    assert (result["changed"], result["drained"]) == (True, True)


def test_a_server_is_ready_when_its_checks_find_it_up(haproxy: HAProxy, no_wait: None) -> None:
    haproxy.servers["gpu-2"] = [8, 0, 0, 0, "DRAIN", "L4CON"]

    def up() -> None:
        haproxy.servers["gpu-2"][1] = 2

    threading.Timer(0.3, up).start()
    first, second = set_state("ready"), set_state("ready")
    assert (first["changed"], first["up"], first["drained"]) == (True, True, False)
    assert (second["changed"], second["up"]) == (False, True)


def test_a_server_that_does_not_come_up_is_told_with_its_last_check(haproxy: HAProxy, no_wait: None) -> None:
    haproxy.servers["gpu-2"] = [8, 0, 0, 0, "DRAIN", "L4CON"]
    assert "is not up after 1 s: DOWN, last check: L4CON." in set_state("ready")["msg"]


@pytest.mark.parametrize(("state", "changed"), [("drained", True), ("ready", False), ("present", False)])
def test_looking_changes_nothing(haproxy: HAProxy, state: str, changed: bool) -> None:
    result = set_state(state, check_mode=state != "present")
    assert (result["changed"], result["sessions"], result["up"]) == (changed, 3, True)
    assert [command for command in haproxy.asked if not command.startswith("show")] == []


def test_a_server_in_maintenance_counts_as_taken_out(haproxy: HAProxy) -> None:
    haproxy.servers["gpu-1"][:2] = [1, 0]
    result = set_state("drained", host="gpu-1")
    assert (result["changed"], result["drained"]) == (False, True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"host": "gpu-9"}, "has no gpu-9 in server_llm; it has: gpu-1, gpu-2."),
        ({"server": "nope"}, "What 'show servers state server_nope' is about is not in the configuration"),
        ({"socket": "no.sock"}, "HAProxy does not answer at no.sock: No such file or directory."),
    ],
)
def test_a_server_that_is_not_there_is_told_of(haproxy: HAProxy, arguments: dict[str, Any], said: str) -> None:
    result = run(
        state_module.main,
        **{"server": "llm", "host": "gpu-1", "state": "drained", "master_socket": "no.sock", **arguments},
    )
    assert said in result["msg"]
