"""One model server's unit on a lab host: what a test looks at, and what it breaks."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import requests

from tests.integration.conftest import LabHost, run, wait_until

# Shorter than the defaults, so that the tests end; long enough for two cores that others use as well.
WATCHDOG_SECONDS = 30
DRAIN_SECONDS = 8
# What a stop may take beyond the requests' time: tearing down, and a loaded machine.
SLACK_SECONDS = 40
# Which process is meant, by the beginning of its command line or a part of it.
PARTS = {
    "wrapper": "vllm_notify",
    "API server": "/bin/vllm serve",
    "engine": "VLLM::EngineCore",
    "worker": "VLLM::Worker",
}


def address_of(host: LabHost) -> str:
    """Return the host's address as the inventory gives it."""
    return str(json.loads(run("ansible-inventory", "--host", host.name).output)["ansible_host"])


@dataclass(frozen=True)
class ModelUnit:
    """The unit of one model server."""

    host: LabHost
    server: str
    port: int

    @property
    def name(self) -> str:
        return f"vllm-{self.server}.service"

    def show(self, *names: str) -> dict[str, str]:
        """Return properties of the unit."""
        text = self.host.read("systemctl", "show", f"--property={','.join(names)}", self.name)
        return dict(line.partition("=")[::2] for line in text.splitlines())

    def get(self, name: str) -> str:
        return self.show(name)[name]

    @property
    def status(self) -> str:
        return self.get("StatusText")

    @property
    def run_id(self) -> str:
        """What identifies one start of the unit."""
        return self.get("InvocationID")

    def journal(self, run_id: str | None = None) -> str:
        """Return the journal of one start of the unit, or of all of them."""
        match = f"_SYSTEMD_INVOCATION_ID={run_id}" if run_id else f"_SYSTEMD_UNIT={self.name}"
        return self.host.read("journalctl", "--no-pager", "--output=cat", "--lines=200", match)

    def pids(self, part: str = "") -> list[int]:
        """Return the process ids of one part of the server, or of all of it."""
        wanted = PARTS[part] if part else ""
        found = []
        for line in self.host.read("ps", "-eww", "-o", "pid=,cgroup:300=,args=").splitlines():
            pid, cgroup, args = line.split(maxsplit=2)
            # The wrapper's arguments hold those of the API server.
            if f"/{self.name}" in cgroup and wanted in args and (part == "wrapper" or PARTS["wrapper"] not in args):
                found.append(int(pid))
        return found

    def signal(self, part: str, name: str) -> None:
        """Send a signal to the first process of a part."""
        pids = self.pids(part)
        assert pids, f"{self.name} has no {part}"
        self.host.read("kill", f"-{name}", str(pids[0]))

    def is_serving(self) -> bool:
        return self.show("ActiveState", "SubState") == {"ActiveState": "active", "SubState": "running"}

    def wait_until_serving(self, seconds: float = 400) -> float:
        return wait_until(self.is_serving, seconds, lambda: self.journal()[-3000:])

    def wait_until_restarted(self, before: str, seconds: float = 400) -> float:
        """Wait until another start of the unit than ``before`` serves; return the seconds."""
        return wait_until(lambda: self.is_serving() and self.run_id != before, seconds, lambda: self.journal()[-3000:])

    def start(self) -> None:
        """Start the unit and wait until it serves."""
        self.host.read("systemctl", "start", "--no-block", self.name)
        self.wait_until_serving()

    def stop(self, seconds: float) -> float:
        """Ask for a stop; wait until it is over, and return how long it took."""
        self.host.read("systemctl", "stop", "--no-block", self.name)
        return wait_until(lambda: self.get("ActiveState") in ("inactive", "failed"), seconds, self.journal)

    @contextlib.contextmanager
    def changed(self, old: str = "", new: str = "", *settings: str) -> Iterator[None]:
        """Run the unit with another command line and other settings, as by a drop-in of an operator."""
        unit = self.host.read("cat", f"/etc/systemd/system/{self.name}")
        command = unit.partition("\nExecStart=")[2].partition("\nEnvironment=")[0]
        assert old in command, f"{old!r} is not in {command}"
        directory = f"/run/systemd/system/{self.name}.d"
        lines = ["[Service]", "ExecStart=", f"ExecStart={command.replace(old, new, 1)}", *settings]
        script = 'mkdir -p "$1" && printf "%s\\n" "$2" > "$1/test.conf" && systemctl daemon-reload'
        self.host.read("sh", "-c", script, "sh", directory, "\n".join(lines))
        try:
            yield
        finally:
            self.host.read("sh", "-c", 'rm -r "$1" && systemctl daemon-reload', "sh", directory)


def embeds(address: str, unit: ModelUnit) -> bool:
    """Whether the embedding server answers, by a question of the test's own."""
    body = {"model": "tiny-embedding", "input": ["Paris"]}
    answer = requests.post(f"http://{address}:{unit.port}/v1/embeddings", json=body, timeout=60)
    return answer.ok and len(answer.json()["data"]) == 1


def generation(tokens: int, *, stream: bool = False) -> dict[str, Any]:
    """Return a request for exactly so many tokens."""
    ask = {"model": "tiny-qwen2", "prompt": "Paris", "max_tokens": tokens, "ignore_eos": True, "temperature": 0}
    return {**ask, "stream": stream, **({"stream_options": {"include_usage": True}} if stream else {})}
