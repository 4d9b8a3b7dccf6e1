"""What systemd is told about a server: ready after a real answer, failed whenever nobody asked it to end.

The server is a stub here; tests/integration runs the same wrapper over real vLLM under a real systemd.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

NOTIFIER = Path(__file__).resolve().parents[2] / "roles/model_server/files/vllm_notify.py"

# Answers a chat request with STATUS after DELAY seconds, and writes the environment it was given to FILE.
STUB = """
import http.server, json, os, signal, sys, time
port, delay, status, end, file = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]), sys.argv[4], sys.argv[5]
open(file, "w").write(json.dumps(dict(os.environ)))
if end.startswith("exit"): sys.exit(int(end[4:]))
time.sleep(delay)
class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args): pass
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        body = json.dumps({"choices": [{"message": {"content": "pong"}}]} if status == 200 else {"error": "x"}).encode()
        self.send_response(status); self.send_header("Content-Length", str(len(body))); self.end_headers()
        self.wfile.write(body)
        if end == "die": os.kill(os.getpid(), signal.SIGKILL)
server = http.server.HTTPServer(("127.0.0.1", port), Handler)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
server.serve_forever()
"""


class Wrapped:
    """A wrapper process over the stub, and the socket systemd would read."""

    def __init__(self, tmp_path: Path, *, delay: float, status: int, end: str, lock: Path | None) -> None:
        stub = tmp_path / "stub.py"
        stub.write_text(STUB)
        self.environment_file = tmp_path / "environment.json"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        address = tmp_path / "notify"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(address))
        credentials = tmp_path / "credentials"
        credentials.mkdir()
        (credentials / "api_key").write_text("secret-key\n")
        command = [sys.executable, str(NOTIFIER), "--kind", "llm", "--port", str(self.port)]
        command += ["--served-model-name", "tiny", "--describe", "float16, tensor parallel 2"]
        command += ["--start-lock", str(lock)] if lock else []
        command += ["--", sys.executable, str(stub), str(self.port), str(delay), str(status), end]
        environment = os.environ | {"NOTIFY_SOCKET": str(address), "CREDENTIALS_DIRECTORY": str(credentials)}
        self.process = subprocess.Popen([*command, str(self.environment_file)], env=environment)
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


@pytest.fixture
def wrap(tmp_path: Path) -> Iterator[Callable[..., Wrapped]]:
    made: list[Wrapped] = []

    def make(*, delay: float = 0, status: int = 200, end: str = "serve", lock: Path | None = None) -> Wrapped:
        directory = tmp_path / str(len(made))
        directory.mkdir()
        made.append(Wrapped(directory, delay=delay, status=status, end=end, lock=lock))
        return made[-1]

    yield make
    for wrapped in made:
        if wrapped.process.poll() is None:
            wrapped.process.terminate()
            wrapped.process.wait(10)
        wrapped.socket.close()


def test_ready_is_told_after_a_real_answer(wrap: Callable[..., Wrapped]) -> None:
    wrapped = wrap(delay=1.5)
    assert wrapped.hear("READY=1")
    assert any("loading the model" in message for message in wrapped.heard[:-1])
    assert "STATUS=serving tiny, float16, tensor parallel 2" in wrapped.heard[-1]


def test_a_server_that_refuses_its_first_request_is_never_ready(wrap: Callable[..., Wrapped]) -> None:
    wrapped = wrap(status=500)
    assert not wrapped.hear("READY=1", seconds=4)
    assert any("first request: POST /v1/chat/completions answered 500" in message for message in wrapped.heard)


def test_a_slow_start_is_extended_instead_of_killed(wrap: Callable[..., Wrapped]) -> None:
    wrapped = wrap(delay=30)
    assert wrapped.hear("EXTEND_TIMEOUT_USEC=60000000", seconds=5)


def test_an_engine_that_dies_without_an_error_status_is_a_failure(wrap: Callable[..., Wrapped]) -> None:
    assert wrap(end="exit0").process.wait(15) == 1


def test_a_wrong_flag_keeps_its_exit_status_so_that_systemd_does_not_loop(wrap: Callable[..., Wrapped]) -> None:
    assert wrap(end="exit2").process.wait(15) == 2


def test_a_killed_server_is_a_failure_that_names_the_signal(wrap: Callable[..., Wrapped]) -> None:
    wrapped = wrap(end="die")
    assert wrapped.process.wait(15) == 128 + signal.SIGKILL
    assert wrapped.hear("vllm killed by SIGKILL")


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


def test_two_servers_of_one_device_start_one_after_the_other(wrap: Callable[..., Wrapped], tmp_path: Path) -> None:
    lock = tmp_path / "gpu-0.lock"
    first = wrap(delay=2, lock=lock)
    assert first.hear("loading the model")
    second = wrap(lock=lock)
    assert second.hear("waiting until another server has started on gpu-0")
    assert not second.environment_file.exists()
    assert first.hear("READY=1")
    assert second.hear("READY=1")


def test_the_key_reaches_vllm_by_its_environment_and_systemd_s_socket_does_not(wrap: Callable[..., Wrapped]) -> None:
    wrapped = wrap()
    assert wrapped.hear("READY=1")
    text = wrapped.environment_file.read_text()
    assert '"VLLM_API_KEY": "secret-key"' in text
    assert "NOTIFY_SOCKET" not in text
    assert "secret-key" not in Path(f"/proc/{wrapped.process.pid}/cmdline").read_text()
