"""What systemd is told about a server: ready after an answer, alive while it answers, failed when it ends unasked.

The server is a stub here; tests/integration runs the same wrapper over real vLLM under a real systemd.
"""

from __future__ import annotations

import fcntl
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

NOTIFIER = Path(__file__).resolve().parents[2] / "roles/model_server/files/vllm_notify"

# Answers chat requests as the file MODE says at that moment, after DELAY seconds; writes its environment to a file.
STUB = """
import http.server, json, os, signal, sys, time
port, delay, end, directory = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3], sys.argv[4]
open(directory + "/environment.json", "w").write(json.dumps(dict(os.environ)))
if end.startswith("exit"): sys.exit(int(end[4:]))
time.sleep(delay)
steps = 0
class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args): pass
    def answer(self, status, text):
        self.send_response(status); self.send_header("Content-Length", str(len(text))); self.end_headers()
        self.wfile.write(text.encode())
    def do_GET(self):
        global steps
        steps += "computes" in open(directory + "/mode").read()
        self.answer(200, "# HELP vllm:x y\\nvllm:iteration_tokens_total_count{engine=\\"0\\"} %d.0\\n" % steps)
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        mode = open(directory + "/mode").read()
        if "silent" in mode: time.sleep(60)
        status = int(next((word for word in mode.split() if word.isdigit()), 200))
        good = {"choices": [{"message": {"content": "pong"}}]} if "empty" not in mode else {"choices": []}
        self.answer(status, json.dumps(good if status == 200 else {"error": "EngineDeadError"}))
        if end == "die": time.sleep(0.5); os.kill(os.getpid(), signal.SIGKILL)
server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
server.daemon_threads = True
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
server.serve_forever()
"""


def module(name: str) -> Any:
    """Import one file of the wrapper, which is a directory to run and not a package."""
    spec = importlib.util.spec_from_file_location(f"vllm_notify_{name}", NOTIFIER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = loaded
    spec.loader.exec_module(loaded)
    return loaded


class Wrapped:
    """A wrapper process over the stub, and the socket systemd would read."""

    def __init__(
        self,
        directory: Path,
        *options: str,
        delay: float = 0,
        end: str = "serve",
        mode: str = "200",
        watchdog: float = 0,
        port: int | None = None,
    ) -> None:
        directory.mkdir(exist_ok=True)
        (directory / "stub.py").write_text(STUB)
        self.environment_file = directory / "environment.json"
        self.mode = directory / "mode"
        self.mode.write_text(mode)
        self.port = port or free_port()
        address = directory / "notify"
        address.unlink(missing_ok=True)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(address))
        (directory / "api_key").write_text("secret-key\n")
        cache = directory / "cache"
        cache.mkdir(exist_ok=True)
        command = [sys.executable, str(NOTIFIER), "--kind", "llm", "--port", str(self.port), *options]
        command += ["--served-model-name", "tiny", "--describe", "float16, tensor parallel 2", "--drain", "0", "--"]
        command += [sys.executable, str(directory / "stub.py"), str(self.port), str(delay), end, str(directory)]
        systemd = {"NOTIFY_SOCKET": address, "CREDENTIALS_DIRECTORY": directory, "CACHE_DIRECTORY": cache}
        environment = os.environ | {name: str(path) for name, path in systemd.items()}
        if watchdog:
            environment |= {"WATCHDOG_USEC": str(int(watchdog * 1_000_000)), "WATCHDOG_PID": "1"}
        self.log_file = directory / "log"
        with self.log_file.open("w") as log:
            self.process = subprocess.Popen(command, env=environment, stderr=log)
        self.heard: list[str] = []

    def hear(self, wanted: str, seconds: float = 15) -> bool:
        """Read notifications until one contains ``wanted``."""
        limit = time.monotonic() + seconds
        while time.monotonic() < limit:
            self.socket.settimeout(max(0.05, limit - time.monotonic()))
            try:
                message = self.socket.recv(4096).decode()
            except TimeoutError:
                return False
            self.heard.append(message)
            if wanted in message:
                return True
        return False

    def forget(self) -> None:
        """Leave behind what was told until now."""
        self.socket.setblocking(False)
        try:
            while True:
                self.socket.recv(4096)
        except BlockingIOError:
            pass

    def child(self) -> int:
        """Return the process id of the stub."""
        pid = self.process.pid
        return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])

    @property
    def log(self) -> str:
        return self.log_file.read_text()


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture
def wrap(tmp_path: Path) -> Iterator[Callable[..., Wrapped]]:
    made: list[Wrapped] = []

    def make(*options: str, name: str = "", **how: Any) -> Wrapped:
        made.append(Wrapped(tmp_path / (name or str(len(made))), *options, **how))
        return made[-1]

    yield make
    for wrapped in made:
        if wrapped.process.poll() is None:
            child = wrapped.child()
            os.kill(child, signal.SIGKILL)
            wrapped.process.wait(15)
        wrapped.socket.close()


def test_ready_is_told_after_a_real_answer(wrap: Callable[..., Wrapped]) -> None:
    wrapped = wrap(delay=1.5)
    assert wrapped.hear("READY=1")
    assert any("loading the model" in message for message in wrapped.heard[:-1])
    assert "STATUS=serving tiny, float16, tensor parallel 2" in wrapped.heard[-1]


@pytest.mark.parametrize(("mode", "told"), [("500", "answered 500"), ("empty", "answered 200 without a result")])
def test_a_server_that_refuses_its_first_request_is_never_ready(
    wrap: Callable[..., Wrapped], mode: str, told: str
) -> None:
    wrapped = wrap(mode=mode)
    assert not wrapped.hear("READY=1", seconds=4)
    assert any(f"first request: POST /v1/chat/completions {told}" in message for message in wrapped.heard)


def test_a_slow_start_is_extended_instead_of_killed(wrap: Callable[..., Wrapped]) -> None:
    assert wrap(delay=30).hear("EXTEND_TIMEOUT_USEC=60000000", seconds=5)


def test_a_start_beyond_its_own_limit_is_extended_no_more(wrap: Callable[..., Wrapped]) -> None:
    wrapped = wrap("--start-timeout", "2", delay=30)
    assert wrapped.hear("loading the model (4 s)", seconds=8)
    assert "EXTEND_TIMEOUT_USEC" not in wrapped.heard[-1]


@pytest.mark.parametrize(("end", "status"), [("exit0", 1), ("exit1", 1), ("exit2", 2), ("exit137", 137)])
def test_an_end_nobody_asked_for_is_a_failure_and_keeps_vllm_s_status(
    wrap: Callable[..., Wrapped], end: str, status: int
) -> None:
    """Status 0 is what vLLM ends with when its engine dies; 2 is a wrong flag, on which systemd must not loop."""
    assert wrap(end=end).process.wait(15) == status


def test_a_killed_server_is_a_failure_that_names_the_signal(wrap: Callable[..., Wrapped]) -> None:
    wrapped = wrap(end="die")
    assert wrapped.process.wait(15) == 128 + signal.SIGKILL
    assert wrapped.hear("vllm was killed by SIGKILL")


def test_being_asked_to_stop_is_a_clean_end(wrap: Callable[..., Wrapped]) -> None:
    wrapped = wrap()
    assert wrapped.hear("READY=1")
    wrapped.process.send_signal(signal.SIGTERM)
    assert wrapped.process.wait(15) == 0
    assert wrapped.hear("STOPPING=1")


def test_being_asked_to_stop_while_loading_is_a_clean_end(wrap: Callable[..., Wrapped]) -> None:
    wrapped = wrap(delay=60)
    assert wrapped.hear("loading the model")
    wrapped.process.send_signal(signal.SIGTERM)
    assert wrapped.process.wait(15) == 0


def test_a_server_that_does_not_stop_is_killed_in_the_end(wrap: Callable[..., Wrapped]) -> None:
    wrapped = wrap()
    assert wrapped.hear("READY=1")
    os.kill(wrapped.child(), signal.SIGSTOP)
    wrapped.process.send_signal(signal.SIGTERM)
    assert wrapped.process.wait(30) == 0
    assert "still not ended 20 s after SIGTERM" in wrapped.log


def test_two_servers_of_one_device_start_one_after_the_other(wrap: Callable[..., Wrapped], tmp_path: Path) -> None:
    lock = ("--device-lock", str(tmp_path / "gpu-0.lock"))
    first = wrap(*lock, delay=2)
    assert first.hear("loading the model")
    second = wrap(*lock)
    assert second.hear("waiting until another server has started or stopped on gpu-0")
    assert not second.environment_file.exists()
    assert first.hear("READY=1")
    assert second.hear("READY=1")


def test_a_stop_waits_for_a_start_on_the_same_device(wrap: Callable[..., Wrapped], tmp_path: Path) -> None:
    """Memory given back while another server measures what is free falsifies the measurement."""
    lock = ("--device-lock", str(tmp_path / "gpu-0.lock"))
    serving = wrap(*lock)
    assert serving.hear("READY=1")
    starting = wrap(*lock, delay=3)
    assert starting.hear("loading the model")
    serving.process.send_signal(signal.SIGTERM)
    assert serving.hear("asked to stop; waiting until another server has started on gpu-0")
    assert starting.hear("READY=1")
    assert serving.process.wait(10) == 0


def test_two_stops_do_not_wait_for_each_other(tmp_path: Path) -> None:
    host, lock = module("host"), [tmp_path / "gpu-0.lock"]
    with (
        host.device_locks(lock, fcntl.LOCK_SH, lambda _: False) as first,
        host.device_locks(lock, fcntl.LOCK_SH, lambda _: False) as second,
        host.device_locks(lock, fcntl.LOCK_EX, lambda _: False) as start,
    ):
        assert (first, second, start) == (True, True, False)


def test_secrets_reach_vllm_by_its_environment_and_what_is_systemd_s_does_not(wrap: Callable[..., Wrapped]) -> None:
    wrapped = wrap(watchdog=30)
    assert wrapped.hear("READY=1")
    text = wrapped.environment_file.read_text()
    assert '"VLLM_API_KEY": "secret-key"' in text
    assert "NOTIFY_SOCKET" not in text
    assert "WATCHDOG_" not in text
    assert "secret-key" not in Path(f"/proc/{wrapped.process.pid}/cmdline").read_text()


def test_the_watchdog_is_fed_while_requests_are_answered(wrap: Callable[..., Wrapped]) -> None:
    wrapped = wrap(watchdog=3)
    assert wrapped.hear("READY=1")
    assert wrapped.hear("WATCHDOG=1", seconds=3)
    assert wrapped.hear("WATCHDOG=1", seconds=3)


def test_a_frozen_server_is_fed_no_more_and_the_journal_says_since_when(wrap: Callable[..., Wrapped]) -> None:
    wrapped = wrap(watchdog=3)
    assert wrapped.hear("WATCHDOG=1")
    os.kill(wrapped.child(), signal.SIGSTOP)
    time.sleep(1)
    wrapped.forget()
    assert not wrapped.hear("WATCHDOG=1", seconds=4)
    assert any("no sign of life for" in message for message in wrapped.heard)
    assert "POST /v1/chat/completions: no answer within" in wrapped.log


def test_a_frozen_engine_behind_a_green_metrics_page_is_fed_no_more(wrap: Callable[..., Wrapped]) -> None:
    wrapped = wrap(watchdog=3)
    assert wrapped.hear("WATCHDOG=1")
    wrapped.mode.write_text("silent")
    time.sleep(1)
    wrapped.forget()
    assert not wrapped.hear("WATCHDOG=1", seconds=4)


@pytest.mark.parametrize("mode", ["silent computes", "503 computes"])
def test_a_busy_server_is_fed_as_long_as_its_engine_computes(wrap: Callable[..., Wrapped], mode: str) -> None:
    wrapped = wrap(watchdog=6)
    assert wrapped.hear("WATCHDOG=1")
    wrapped.mode.write_text(mode)
    time.sleep(1.5)
    wrapped.forget()
    for _ in range(3):
        assert wrapped.hear("WATCHDOG=1", seconds=6)
    wrapped.mode.write_text("200")
    assert wrapped.hear("STATUS=serving tiny, float16, tensor parallel 2")
    assert "WATCHDOG=trigger" not in "".join(wrapped.heard)


def test_an_engine_that_fails_every_request_is_reported_at_once(wrap: Callable[..., Wrapped]) -> None:
    wrapped = wrap(watchdog=60)
    assert wrapped.hear("READY=1")
    wrapped.mode.write_text("500")
    assert wrapped.hear("WATCHDOG=trigger", seconds=10 + 5)
    assert "every request fails; POST /v1/chat/completions answered 500" in wrapped.heard[-1]


def test_a_server_ended_by_the_watchdog_is_gone_and_its_processes_are_named(wrap: Callable[..., Wrapped]) -> None:
    wrapped = wrap(watchdog=60)
    assert wrapped.hear("READY=1")
    child = wrapped.child()
    os.kill(child, signal.SIGSTOP)
    wrapped.process.send_signal(signal.SIGABRT)
    assert wrapped.process.wait(15) == 128 + signal.SIGABRT
    assert "ended by the watchdog" in wrapped.log
    assert not Path(f"/proc/{child}").exists()


def test_a_missing_model_ends_the_start_for_good(wrap: Callable[..., Wrapped]) -> None:
    wrapped = wrap("--model-path", "/nowhere/model")
    assert wrapped.process.wait(15) == 2
    assert wrapped.hear("STATUS=cannot start: model /nowhere/model does not exist; fetch it: ansible-playbook")
    assert not wrapped.environment_file.exists()


def test_a_taken_port_is_waited_for_and_its_holder_is_named(wrap: Callable[..., Wrapped]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        wrapped = wrap(port=port)
        assert wrapped.hear(f"waiting for port {port}, taken by ")
        assert f"(pid {os.getpid()}" in wrapped.heard[-1]
    assert wrapped.hear("READY=1")


def test_starts_that_fail_in_a_row_lose_their_cache_once_and_are_given_up(wrap: Callable[..., Wrapped]) -> None:
    first = wrap(name="one", end="exit1")
    compiled = first.environment_file.parent / "cache" / "kernel"
    compiled.write_text("damaged")
    assert first.process.wait(15) == 1
    seen = []
    for _ in range(4):
        wrapped = wrap(name="one", end="exit1")
        seen.append((wrapped.process.wait(15), compiled.exists()))
    assert seen == [(1, True), (1, True), (1, False), (2, False)]
    assert (compiled.parent / "set-aside" / "kernel").read_text() == "damaged"
    assert "given up after 5 failed starts in a row" in wrapped.log
    assert wrap(name="one", end="exit1").process.wait(15) == 1, "a start by hand is tried again"


def test_a_server_that_has_served_is_never_given_up(wrap: Callable[..., Wrapped]) -> None:
    for _ in range(3):
        assert wrap("--start-tries", "2", name="one", end="die").process.wait(15) == 128 + signal.SIGKILL


def test_starts_whose_wrapper_was_killed_count_as_failed(wrap: Callable[..., Wrapped]) -> None:
    for _ in range(2):
        wrapped = wrap("--start-tries", "2", name="one", delay=60)
        assert wrapped.hear("loading the model")
        child = wrapped.child()
        wrapped.process.kill()
        wrapped.process.wait(15)
        os.kill(child, signal.SIGKILL)
    assert wrap("--start-tries", "2", name="one", delay=60).process.wait(15) == 2


def fake_process(proc: Path, pid: int, name: str, cgroup: str, state: str = "S") -> None:
    directory = proc / str(pid)
    directory.mkdir(parents=True)
    (directory / "stat").write_text(f"{pid} (a) name) {state} 1 1")
    (directory / "cmdline").write_text(f"{name}\0")
    (directory / "cgroup").write_text(cgroup)


def test_only_processes_of_the_same_unit_are_leftovers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = module("host")
    monkeypatch.setattr(host, "PROC", tmp_path)
    own = "1:memory:/system.slice/vllm-llm.service\n0::/system.slice/vllm-llm.service\n"
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "cgroup").write_text(own)
    fake_process(tmp_path, os.getpid(), "python", own)
    fake_process(tmp_path, 4_000_001, "VLLM::EngineCore", own, "T")
    fake_process(tmp_path, 4_000_002, "VLLM::Worker_TP0", own, "Z")
    fake_process(tmp_path, 4_000_003, "VLLM::EngineCore", own.replace("llm.service", "other.service"))
    assert [str(found) for found in host.of_unit("vllm-llm.service")] == ["VLLM::EngineCore (pid 4000001, is stopped)"]
    assert host.of_unit("llm.service") == []


@pytest.mark.parametrize(("cgroup", "unit"), [("0::/\n", ""), ("0::/user.slice/s-1.scope\n", "s-1.scope")])
def test_a_wrapper_run_by_hand_takes_nobody_for_its_leftovers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cgroup: str, unit: str
) -> None:
    """All processes of a login, or of a container, are in one cgroup: what is found there would be killed."""
    host = module("host")
    monkeypatch.setattr(host, "PROC", tmp_path)
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "cgroup").write_text(cgroup)
    fake_process(tmp_path, 4_000_001, "sshd", cgroup)
    assert host.of_unit(unit) == []


def test_health_tells_busy_from_silent_and_dead() -> None:
    health = module("probe").Health()
    assert not health.missed(5.0, engine_failed=False), "one look tells nothing of movement"
    assert health.missed(6.0, engine_failed=True)
    assert not health.missed(None, engine_failed=True)
    assert not health.missed(6.0, engine_failed=True)
    assert not health.dead
    assert not health.missed(6.0, engine_failed=True)
    assert health.dead
