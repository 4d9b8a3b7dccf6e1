"""A gateway of the lab, and a client of it on another host: what tests ask, break and look at."""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from tests.integration.conftest import ENVIRONMENT, ROOT, LabHost, wait_until

TOOLS = Path(__file__).parent / "tools"
TOOLS_THERE = "/tmp/gateway-tools"
SOCKET = "/run/vllm-gateway/admin.sock"
UNIT = "vllm-gateway.service"
CHAT = "/v1/chat/completions"
# What the units' own probes and the gateway's checks ask all the time; they are answered with 200.
PROBES = {
    ("GET", "/health"),
    ("GET", "/v1/models"),
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/embeddings"),
    ("POST", "/rerank"),
}
REQUEST = re.compile(r'"(\S+) (.*?) HTTP/[0-9.]+" (\d+)')
ASK_SOCKET = """
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
s.sendall(sys.argv[2].encode() + b"\\n")
while data := s.recv(65536):
    sys.stdout.write(data.decode())
"""


def chat(tokens: int, stream: bool = True) -> dict[str, Any]:
    """Return a request that gets exactly so many tokens."""
    message = {"role": "user", "content": "Count."}
    return {
        "model": "tiny-qwen2",
        "messages": [message],
        "max_tokens": tokens,
        "ignore_eos": True,
        "stream": stream,
        "temperature": 0,
    }


def result(process: subprocess.Popen[str]) -> Any:
    """Wait for a tool; return what it found."""
    output, complaint = process.communicate(timeout=150)
    assert process.returncode == 0, complaint[-3000:]
    return json.loads(output.splitlines()[-1])


@dataclass
class Seen:
    """What model servers wrote while something was tried: their log, and of it the requests that are no probes."""

    text: str = ""
    requests: list[tuple[str, str, int]] = field(default_factory=list)


@dataclass(frozen=True)
class LabGateway:
    """``plan`` is the GatewayPlan as a dict, ``key`` a secret of the key default, ``ca_file`` on the controller."""

    plan: dict[str, Any]
    base_url: str
    key: str
    ca_file: str | None
    host: LabHost
    client: LabHost
    address: str

    @property
    def port(self) -> int:
        return urlsplit(self.base_url).port or 443

    @property
    def netloc(self) -> str:
        return f"{self.address}:{self.port}"

    def door(self, key: str | None = None) -> dict[str, Any]:
        """Return what the tools need to reach it."""
        ca = Path(self.ca_file).read_text() if self.ca_file else None
        return {"address": self.address, "port": self.port, "ca": ca, "key": key or self.key}

    def tool(self, name: str, at: LabHost | None = None, timeout: float = 120, **given: Any) -> Any:
        """Run a program of tools/ on the client, or another host; what it is given goes over its standard input."""
        with self.running(name, at, **{"door": self.door()} | given) as process:
            output, complaint = process.communicate(timeout=timeout)
        assert process.returncode == 0, f"{name} on {(at or self.client).name}: {complaint[-3000:]}"
        return json.loads(output.splitlines()[-1])

    @contextmanager
    def running(self, name: str, at: LabHost | None = None, **given: Any) -> Iterator[subprocess.Popen[str]]:
        """Have a program of tools/ run beside something else; its standard output is for the caller to read."""
        process = subprocess.Popen(
            [ROOT / "scripts/lab", "exec", (at or self.client).name, "--", "python3", f"{TOOLS_THERE}/{name}.py"],
            env=ENVIRONMENT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdin is not None
        process.stdin.write(json.dumps(given) + "\n")
        process.stdin.flush()
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()

    @contextmanager
    def holding(self, at_once: int, door: dict[str, Any] | None = None) -> Iterator[list[bool]]:
        """Have so many streams under way during the with-block; tell after it whether each then came whole."""
        whole: list[bool] = []
        with self.running("held", door=door or self.door(), path=CHAT, body=chat(1900), at_once=at_once) as process:
            assert process.stdout is not None
            assert process.stdin is not None
            assert process.stdout.readline() == "begun\n"
            yield whole
            process.stdin.write("read\n")
            process.stdin.flush()
            whole += result(process)

    def ask_socket(self, command: str) -> str:
        """Say a command to HAProxy's admin socket."""
        return self.host.read("python3", "-c", ASK_SOCKET, SOCKET, command)

    def server(self, name: str) -> dict[str, Any]:
        """Return a server of the plan."""
        return next(one for one in self.plan["servers"] if one["name"] == name)

    def metric(self, server: str, name: str, **labels: str) -> float:
        """Return a metric of a model server, summed over its labels but those given; read on its host by loopback."""
        port = self.server(server)["instances"][0]["port"]
        lines = self.host.read("python3", "-c", FETCH, f"http://127.0.0.1:{port}/metrics").splitlines()
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        return sum(
            float(line.rpartition(" ")[2])
            for line in lines
            if line.startswith((f"{name}{{", f"{name} ")) and all(one in line for one in wanted)
        )

    def stat(self, server: str) -> dict[str, str]:
        """Return HAProxy's statistics of a model server."""
        rows = list(csv.DictReader(io.StringIO(self.ask_socket("show stat").removeprefix("# "))))
        return next(row for row in rows if (row["pxname"], row["svname"]) == (f"server_{server}", self.host.name))

    def mark(self, instances: Sequence[Mapping[str, Any]]) -> str:
        """Have each server log a line that nothing else does; return what is in it."""
        mark = f"/version?{uuid4().hex}"
        self.host.read("python3", "-c", FETCH, *(f"http://127.0.0.1:{one['port']}{mark}" for one in instances))
        return mark

    @contextmanager
    def watching_servers(self) -> Iterator[Seen]:
        """Tell, after the with-block, what reached the model servers during it, by their own logs."""
        seen = Seen()
        instances = [instance for one in self.plan["servers"] for instance in one["instances"]]
        began = self.mark(instances)
        yield seen
        ended = self.mark(instances)
        texts: list[str] = []

        def read() -> bool:
            # Not by a cursor: where the machine's clock is set back, journalctl leaves lines out.
            logs = [
                self.host.read("journalctl", "--output=cat", "--no-pager", "--lines=20000", f"--unit={one['unit']}")
                for one in instances
            ]
            texts[:] = [log.partition(began)[2].partition(ended)[0] for log in logs]
            return all(began in log and ended in log for log in logs)

        wait_until(read, 30, lambda: f"the marks {began} and {ended} are not in the logs")
        # The first line of each is what is left of the mark's own, the last what comes before the other.
        seen.text = "\n".join(line for text in texts for line in text.splitlines()[1:-1])
        found = [(method, path, int(status)) for method, path, status in REQUEST.findall(seen.text)]
        seen.requests = [one for one in found if not (one[:2] in PROBES and one[2] == 200)]


FETCH = """
import sys, urllib.request
for url in sys.argv[1:]:
    sys.stdout.write(urllib.request.urlopen(url, timeout=20).read().decode())
"""


def send_tools(host: LabHost) -> None:
    """Copy tools/ to a host."""
    files = subprocess.run(["tar", "-cC", str(TOOLS), "."], capture_output=True, check=True).stdout
    unpack = f"mkdir -p {shlex.quote(TOOLS_THERE)} && tar -xC {shlex.quote(TOOLS_THERE)}"
    subprocess.run(
        [ROOT / "scripts/lab", "exec", host.name, "--", "sh", "-c", unpack], env=ENVIRONMENT, input=files, check=True
    )
