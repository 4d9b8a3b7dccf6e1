"""The lab of the tests: real hosts on this machine, under a name of their own."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Not VLLM_FLEET_LAB: that names the user's own lab, which tests would take down.
PREFIX = os.environ.get("VLLM_FLEET_TEST_LAB") or "fleettest"
ENVIRONMENT = os.environ | {
    "VLLM_FLEET_LAB": PREFIX,
    "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
    "ANSIBLE_NOCOLOR": "1",
    "PATH": f"{ROOT / '.venv/bin'}:{os.environ['PATH']}",
}


UNITS = ("vllm-llm.service", "vllm-embedding.service", "vllm-rerank.service")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have the host of the end-to-end test, made from nothing, used as it is by all others before it is changed."""
    last = ("test_redeploy.py", "test_units_start_stop.py", "test_units_survive.py")
    items.sort(key=lambda item: (item.path.name != "test_end_to_end.py", item.path.name in last))


@dataclass(frozen=True)
class Done:
    """A finished command: exit status and everything it printed."""

    status: int
    output: str


def run(*command: str | Path, timeout: float = 900, cwd: Path = ROOT) -> Done:
    """Run a command in the checkout against the tests' lab."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
    )
    return Done(done.returncode, done.stdout)


def wait_until(condition: Callable[[], bool], seconds: float, what: Callable[[], str] = str) -> float:
    """Wait for a condition; return how many seconds it took, or fail with what an operator would look at."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, f"not within {seconds} s; {what()}"
        time.sleep(0.5)
    return time.monotonic() - began


@dataclass(frozen=True)
class LabHost:
    """A host of the tests' lab, reached by scripts/lab."""

    name: str

    def do(self, *command: str, timeout: float = 120) -> Done:
        """Run a command on the host."""
        return run("scripts/lab", "exec", self.name, "--", *command, timeout=timeout)

    def read(self, *command: str) -> str:
        """Run a command on the host that must succeed; return what it printed."""
        done = self.do(*command)
        assert done.status == 0, f"{' '.join(command)} on {self.name}: {done.output}"
        return done.output.strip()

    def active(self, units: Sequence[str]) -> list[str]:
        """Return those of the units that are active."""
        states = self.do("systemctl", "is-active", *units).output.split()
        if len(states) != len(units):  # ssh's complaint about a host that is not up yet
            return []
        return [unit for unit, state in zip(units, states, strict=True) if state == "active"]

    def loading(self, units: Sequence[str]) -> list[str]:
        """Return the status lines of those of the units that load their model or wait for their first answer."""
        lines = self.do("systemctl", "show", "--property=StatusText", *units).output.splitlines()
        return [line for line in lines if "loading the model" in line or "first request" in line]


def make_host() -> LabHost:
    """Make the tests' lab anew, with one plain Debian host; scripts/test takes it down."""
    run("scripts/lab", "down")
    up = run("scripts/lab", "up")
    assert up.status == 0, up.output
    return LabHost("lab-1")


@pytest.fixture(scope="session")
def lab_host() -> LabHost:
    """A host made from nothing, which the test files that ask for it share."""
    if os.geteuid() != 0:
        pytest.skip("a lab host needs root: run `sudo make test`")
    return make_host()


@pytest.fixture(scope="session")
def deployed_host() -> LabHost:
    """A host with the three servers and the gateway of the lab's inventory; what is there already stays as it is."""
    if os.geteuid() != 0:
        pytest.skip("a lab host needs root: run `sudo make test`")
    up = run("scripts/lab", "up", "lab-1")
    assert up.status == 0, up.output
    host = LabHost("lab-1")
    done = run("scripts/deploy", "site.yml", timeout=1800)
    assert done.status == 0, done.output[-6000:] + journals(host)
    return host


def journals(host: LabHost) -> str:
    """Return the end of what the model servers said."""
    return host.do("journalctl", "--no-pager", "-n", "120", *(f"--unit={unit}" for unit in UNITS)).output
