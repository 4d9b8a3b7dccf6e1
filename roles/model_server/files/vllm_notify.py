#!/usr/bin/env python3
"""Run one vLLM server under systemd and tell systemd the truth about it.

vLLM has no sd_notify, answers 200 on /health before its first request can still kill it, and exits 0 when its
engine dies. This wrapper starts vLLM, reports READY=1 only after a real request of the server's kind was
answered, keeps the status line readable, forwards signals, and ends as vLLM ended, except that an
exit nobody asked for is never a success.

Standard library only. Usage: vllm_notify.py --kind llm --port 32804 --served-model-name NAME [...] -- vllm serve ...
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

# How far each sign of life moves systemd's start timeout, and how often one is given.
EXTEND_SECONDS = 60
TICK_SECONDS = 1.0
# A first request may compile kernels for minutes; the start timeout of the unit bounds it all.
PROBE_TIMEOUT_SECONDS = 600.0
EXIT_FAILED = 1

PROBES: dict[str, tuple[str, dict[str, Any]]] = {
    "llm": ("/v1/chat/completions", {"messages": [{"role": "user", "content": "ping"}], "max_tokens": 1}),
    "embedding": ("/v1/embeddings", {"input": ["ping"]}),
    "rerank": ("/rerank", {"query": "ping", "documents": ["ping"]}),
}


def notify(**fields: str | int) -> None:
    """Send fields such as ``READY=1`` to systemd; without systemd, do nothing."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    message = "\n".join(f"{key}={value}" for key, value in fields.items())
    # A status line that cannot be delivered is no reason to stop serving.
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.connect("\0" + address[1:] if address.startswith("@") else address)
        sock.sendall(message.encode())


def say(text: str) -> None:
    """Write one line to the journal."""
    print(f"vllm-notify: {text}", file=sys.stderr, flush=True)


def probe(
    kind: str, address: str, port: int, model: str, key: str | None, timeout: float = PROBE_TIMEOUT_SECONDS
) -> None:
    """Ask the server one real, tiny question of its kind.

    Raises:
        OSError: nothing listens, or the connection broke.
        ValueError: the server answered something else than an answer.
    """
    path, body = PROBES[kind]
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    connection = http.client.HTTPConnection(address, port, timeout=timeout)
    try:
        connection.request("POST", path, json.dumps({"model": model, **body}), headers)
        response = connection.getresponse()
        text = response.read().decode(errors="replace")
    except http.client.HTTPException as error:
        raise OSError(f"{type(error).__name__}: {error}") from error
    finally:
        connection.close()
    if response.status != 200:
        raise ValueError(f"POST {path} answered {response.status}: {text[:300]}")
    answer = json.loads(text)
    if not any(answer.get(part) for part in ("choices", "data", "results")):
        raise ValueError(f"POST {path} answered 200 without a result: {text[:300]}")


@contextlib.contextmanager
def start_locks(paths: Sequence[Path], waiting: Callable[[str], bool]) -> Iterator[bool]:
    """Hold the start locks of a server's devices; yield False where ``waiting`` gave up.

    Two servers that start on one GPU each measure the other's memory as taken. Locks are taken in sorted
    order, so that two servers can never wait for each other, and end with the process whatever happens.
    """
    with contextlib.ExitStack() as stack:
        for path in sorted(paths):
            file = stack.enter_context(path.open("a+", encoding="utf-8"))
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if not waiting(path.stem):
                        yield False
                        return
        yield True


class Supervisor:
    """One vLLM process from its start to its end."""

    def __init__(self, options: argparse.Namespace, command: Sequence[str], api_key: str | None) -> None:
        self.options = options
        self.command = list(command)
        self.api_key = api_key
        self.process: subprocess.Popen[bytes] | None = None
        self.stop_signal: int | None = None
        self.began = time.monotonic()

    def handle_stop(self, number: int, _frame: object) -> None:
        """Pass SIGTERM or SIGINT on to vLLM, which then drains its requests."""
        self.stop_signal = number
        notify(STOPPING=1, STATUS=f"{self.options.served_model_name}: finishing running requests, then stopping")
        if self.process is not None:
            self.process.send_signal(number)

    def alive(self, status: str) -> None:
        """Tell systemd what the start is doing and that it is not stuck, up to the unit's own limit."""
        elapsed = int(time.monotonic() - self.began)
        fields: dict[str, str | int] = {"STATUS": f"{self.options.served_model_name}: {status} ({elapsed} s)"}
        if elapsed < self.options.start_timeout:
            fields["EXTEND_TIMEOUT_USEC"] = EXTEND_SECONDS * 1_000_000
        notify(**fields)

    def wait_for_lock(self, name: str) -> bool:
        """Wait a moment for another server's start on the same device; False when asked to stop."""
        self.alive(f"waiting until another server has started on {name}")
        time.sleep(TICK_SECONDS)
        return self.stop_signal is None

    def run(self) -> int:
        """Start vLLM, report readiness, wait for its end and return the exit status of this process."""
        with start_locks(self.options.start_lock, self.wait_for_lock) as locked:
            if not locked or self.stop_signal is not None:
                return 0
            environment = {key: value for key, value in os.environ.items() if key != "NOTIFY_SOCKET"}
            if self.api_key:
                environment["VLLM_API_KEY"] = self.api_key
            try:
                self.process = subprocess.Popen(self.command, env=environment)
            except OSError as error:
                say(f"cannot start {self.command[0]}: {error}")
                notify(STATUS=f"cannot start {self.command[0]}: {error.strerror}")
                return EXIT_FAILED
            if self.stop_signal is not None:
                self.process.send_signal(self.stop_signal)
            self.wait_until_ready(self.process)
        return self.exit_status(self.process.wait())

    def wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        """Return when a real request was answered, or when vLLM ended or is being stopped."""
        answered = threading.Event()
        refusal = ["loading the model"]

        def ask() -> None:
            while process.poll() is None and not answered.is_set():
                try:
                    options = self.options
                    probe(options.kind, options.address, options.port, options.served_model_name, self.api_key)
                    answered.set()
                except ConnectionRefusedError:
                    refusal[0] = "loading the model"
                except (OSError, ValueError) as error:
                    refusal[0] = f"first request: {error}"
                answered.wait(TICK_SECONDS)

        threading.Thread(target=ask, daemon=True).start()
        while process.poll() is None and self.stop_signal is None:
            if answered.wait(TICK_SECONDS):
                elapsed = int(time.monotonic() - self.began)
                say(f"ready: {self.options.served_model_name} answered a real request after {elapsed} s")
                notify(READY=1, STATUS=f"serving {self.options.served_model_name}, {self.options.describe}")
                return
            self.alive(refusal[0])

    def exit_status(self, code: int) -> int:
        """Say how vLLM ended and translate it: asked to stop is 0, unasked is never 0."""
        if self.stop_signal is not None and code in (0, -self.stop_signal):
            return 0
        ending = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exited with status {code}"
        say(f"vllm {ending}" + ("" if self.stop_signal else " although nobody asked it to stop"))
        notify(STATUS=f"vllm {ending}")
        return 128 - code if code < 0 else code or EXIT_FAILED


def credential(name: str) -> str | None:
    """Return a secret handed over by systemd's LoadCredential=, or None."""
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    file = Path(directory, name) if directory else None
    return file.read_text(encoding="utf-8").strip() if file is not None and file.exists() else None


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and run the server; return the exit status."""
    parser = argparse.ArgumentParser(prog="vllm_notify.py", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--kind", choices=sorted(PROBES), required=True, help="which request proves the server")
    parser.add_argument("--address", default="127.0.0.1", help="where the server listens")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--served-model-name", required=True, help="the model name the request carries")
    parser.add_argument("--describe", default="", help="what the status line says beside the model's name")
    parser.add_argument("--start-timeout", type=int, default=1800, help="seconds a start may take at most")
    parser.add_argument("--start-lock", type=Path, action="append", default=[], help="file locked while starting")
    parser.add_argument("command", nargs="+", help="the server, behind --")
    options = parser.parse_args(arguments)
    supervisor = Supervisor(options, options.command, credential("api_key"))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, supervisor.handle_stop)
    return supervisor.run()


if __name__ == "__main__":
    sys.exit(main())
