"""A wrapper process over a stub of vLLM, and the socket that systemd would read.

tests/integration runs the same wrapper over real vLLM under a real systemd.
"""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

NOTIFIER = Path(__file__).resolve().parents[3] / "roles/model_server/files/vllm_notify"

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
