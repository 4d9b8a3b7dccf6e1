"""The lab for real: hosts that boot, limit, reboot and survive accidents, and a machine that is clean afterwards."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0, reason="making lab hosts needs root: run `sudo make test`"),
]


@dataclass(frozen=True)
class Lab:
    """A lab of the tests' own, used through its command line."""

    prefix: str

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {"VLLM_FLEET_LAB": self.prefix, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}

    @property
    def hosts(self) -> Path:
        state = os.environ.get("VLLM_FLEET_LAB_STATE") or "/var/lib/vllm-fleet-lab"
        return Path(state, self.prefix, "hosts")

    def run(self, *words: str, status: int = 0, nicer: int = 0) -> str:
        """Run scripts/lab, with so much added to its nice value; it must end with `status`. Returns what it printed."""
        done = subprocess.run(
            ["nice", "-n", str(nicer), ROOT / "scripts/lab", *words],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == status, f"scripts/lab {' '.join(words)}: {done.returncode}\n{done.stdout}"
        assert "Traceback" not in done.stdout, done.stdout
        return done.stdout

    def on(self, host: str, script: str) -> str:
        """Run a shell script on a host, which must succeed."""
        return self.run("exec", host, "--", "bash", "-c", script).strip()

    def addresses(self) -> dict[str, str]:
        return {host["name"]: host["address"] for host in json.loads(self.run("status", "--json"))}

    def processes(self, host: str) -> list[int]:
        """Return the systemd-nspawn processes of a host on this machine."""
        machine = f"--machine={self.prefix}-{host}"
        return [pid for pid, words in command_lines() if machine in words and words[0].endswith("systemd-nspawn")]

    def traces(self) -> dict[str, list[str]]:
        """Return everything on this machine that carries the lab's name: nothing, once it is down."""
        links = run("ip", "-o", "link").splitlines() + run("nft", "list", "ruleset").splitlines()
        cgroups = [str(path) for path in Path("/sys/fs/cgroup").rglob(f"{self.prefix}-*")]
        files = [path for path in ("/run", "/var/lib", "/run/lock", "/run/systemd/nspawn") if Path(path).exists()]
        return {
            "network": [line for line in links if self.prefix in line],
            "mounts": [line for line in Path("/proc/mounts").read_text().splitlines() if self.prefix in line],
            "cgroups": cgroups,
            "processes": [f"{pid} {words}" for pid, words in command_lines() if f"{self.prefix}-" in " ".join(words)],
            "files": [str(path) for top in files for path in Path(top).glob(f"*/*{self.prefix}*")],
            "units": [line for line in units() if self.prefix in line],
        }


def run(*words: str) -> str:
    """Run a program of the machine, return what it prints."""
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def units() -> list[str]:
    """Return the units of the machine's systemd, if it runs one."""
    return run("systemctl", "list-units", "--all").splitlines() if Path("/run/systemd/system").exists() else []


def command_lines() -> list[tuple[int, list[str]]]:
    """Return all processes with their arguments."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            found.append((int(process.name), (process / "cmdline").read_text().split("\0")))
        except (OSError, UnicodeDecodeError):
            continue
    return found


def until(what: str, condition: object, seconds: float = 30) -> None:
    """Wait until `condition()` is true."""
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def two() -> Iterator[Lab]:
    """A lab of two hosts."""
    lab = Lab("labtest")
    lab.run("down")
    lab.run("up", "lab-1", "lab-2")
    yield lab
    lab.run("down")


@pytest.fixture
def other() -> Iterator[Lab]:
    """A second lab, not up."""
    lab = Lab("labtesttwo")
    lab.run("down")
    yield lab
    lab.run("down")


@pytest.mark.alone
def test_forwarding_is_as_before_once_the_last_lab_is_down(other: Lab) -> None:
    labs = Path("/run/vllm-fleet-lab/labs")
    before = Path("/proc/sys/net/ipv4/ip_forward").read_text()
    if labs.exists() and any(labs.iterdir()):
        pytest.skip("another lab is up on this machine, so forwarding has to stay on")
    other.run("up")
    other.run("down")
    assert Path("/proc/sys/net/ipv4/ip_forward").read_text() == before


def test_a_host_is_a_plain_server_that_has_booted(two: Lab) -> None:
    assert two.on("lab-1", "systemctl is-system-running; hostname; cat /proc/1/comm").split() == [
        "running",
        "lab-1",
        "systemd",
    ]


def test_a_login_never_meets_a_stopping_user_manager(two: Lab) -> None:
    assert two.on("lab-1", "loginctl show-user root --property=Linger --value") == "yes"


def test_a_host_lacks_what_the_roles_have_to_install(two: Lab) -> None:
    assert two.on(
        "lab-1", "for p in g++ gcc uv curl; do command -v $p; done; python3 -c 'import ensurepip' 2>&1 | tail -1"
    ) == ("ModuleNotFoundError: No module named 'ensurepip'")


def test_hosts_reach_each_other_and_the_package_archive(two: Lab) -> None:
    address = two.addresses()["lab-2"]
    two.on("lab-1", f"ping -c1 -W3 {address}")
    assert "E:" not in two.on("lab-1", "apt-get -o APT::Update::Error-Mode=any update 2>&1")


def test_hosts_use_the_machines_package_index(two: Lab) -> None:
    two.on("lab-1", "apt-get install -y --no-install-recommends python3-venv >/dev/null 2>&1")
    two.on("lab-1", "python3 -m venv /tmp/venv && /tmp/venv/bin/pip download -q --no-deps -d /tmp/wheels idna")


@pytest.mark.parametrize(
    ("limits", "script", "refused"),
    [
        ("-p MemoryMax=50M -p MemorySwapMax=0", "exec python3 -c 'bytes([1]) * 200_000_000'", "code=killed"),
        ("-p TasksMax=3", "for i in 1 2 3 4 5; do sleep 1 & done; wait", "Resource temporarily unavailable"),
    ],
)
def test_limits_of_units_hold(two: Lab, limits: str, script: str, refused: str) -> None:
    command = f"timeout 20 systemd-run --wait --pipe {limits} -- bash -c {shlex.quote(script)} 2>&1; echo status=$?"
    assert "status=0" in two.on("lab-1", command.replace(limits, "")), "the script itself works"
    assert refused in two.on("lab-1", command)


def test_the_cpu_quota_of_a_unit_holds(two: Lab) -> None:
    script = "timeout 2 sh -c 'while :; do :; done'; cut -d' ' -f3- /proc/$$/stat >/dev/null; times"
    output = two.on("lab-1", f'systemd-run --wait --pipe --quiet -p CPUQuota=20% -- bash -c "{script}"')
    user = output.splitlines()[1].split()[0]  # of the children: 0m0.400s
    assert float(user.removesuffix("s").partition("m")[2]) < 0.8, output


def test_a_host_gives_way_to_others_as_the_command_that_made_it(other: Lab) -> None:
    other.run("up", nicer=4)
    weights = {
        file.name: int(file.read_text())
        for name in ("cpu.weight", "cpu.shares")
        for file in Path("/sys/fs/cgroup").rglob(f"*{other.prefix}-lab-1*/{name}")
    }
    part = 1.25 ** -(os.getpriority(os.PRIO_PROCESS, 0) + 4)
    usual = {"cpu.weight": 100, "cpu.shares": 1024}
    assert weights
    assert weights == {name: pytest.approx(part * usual[name], abs=usual[name] / 100) for name in weights}


def test_shared_memory_is_half_of_the_memory_as_on_any_server(two: Lab) -> None:
    total = int(two.on("lab-1", "awk '/MemTotal/ {print $2}' /proc/meminfo"))
    shared = int(two.on("lab-1", "df --output=size /dev/shm | tail -1"))
    assert shared == pytest.approx(total / 2, rel=0.02)


def test_doing_it_again_is_quick_and_changes_nothing(two: Lab) -> None:
    before = two.on("lab-1", "cat /proc/1/stat") and two.processes("lab-1")
    start, busy = time.monotonic(), os.times()
    two.run("up")
    spent = os.times()
    # Other tests have the processors, too.
    assert spent.children_user + spent.children_system - busy.children_user - busy.children_system < 1.5
    assert time.monotonic() - start < 8
    assert two.processes("lab-1") == before


def test_a_reboot_keeps_address_and_files(two: Lab) -> None:
    before = two.addresses()
    two.on("lab-1", "echo kept > /root/file")
    two.run("reboot", "lab-1")
    assert two.on("lab-1", "cat /root/file; systemctl is-system-running").split() == ["kept", "running"]
    assert two.addresses() == before


def test_ansible_reaches_and_reboots_the_hosts_of_the_inventory(two: Lab) -> None:
    # A moment later: a host that goes down at once may take the bus away before its own command has heard of it.
    later = "reboot_command='systemd-run --quiet --on-active=1 systemctl reboot'"
    for words in (("ping",), ("reboot", "-a", later)):
        answers = ansible(two, "ansible", "gpu_hosts", "-m", *words)
        assert answers.count("=>") == 2, answers


def test_hosts_of_other_groups_reach_the_gpu_host_and_clients_are_left_alone(other: Lab) -> None:
    other.run("up")
    other.run("up", "--group", "clients")
    other.run("up", "--group", "gateways")
    addresses = other.addresses()
    assert list(addresses) == ["lab-1", "client-1", "gateway-1"]
    reach = f"ping -c1 -W3 {addresses['lab-1']} >/dev/null && head -c 4 </dev/tcp/{addresses['lab-1']}/22"
    for name in ("client-1", "gateway-1"):
        assert other.on(name, reach) == "SSH-"
    answers = ansible(other, "ansible", "all", "-m", "ping")
    assert answers.count("pong") == 3, answers
    listed = ansible(other, "ansible-playbook", "site.yml", "--list-hosts")
    assert "lab-1" in listed
    assert "client-1" not in listed
    refused = other.run("up", "--group", "clients", "lab-1", status=2)
    assert "lab-1 was made in the group gpu_hosts" in refused


def ansible(lab: Lab, program: str, *words: str) -> str:
    """Run a program of Ansible on the lab's inventory, which must succeed; returns what it printed."""
    done = subprocess.run(
        [ROOT / ".venv/bin" / program, "-i", "inventory/lab/hosts.py", *words],
        cwd=ROOT,
        env=lab.environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_after_kill_9_nothing_of_the_host_lives_on_and_up_brings_it_back(two: Lab) -> None:
    two.on("lab-1", "echo kept > /root/file")
    for process in two.processes("lab-1"):
        os.kill(process, signal.SIGKILL)
    until("the host counts as stopped", lambda: '"stopped"' in run_status(two))
    assert two.processes("lab-1") == []
    two.run("up")
    assert two.on("lab-1", "cat /root/file") == "kept"


def run_status(lab: Lab) -> str:
    """Return what status says, whatever it says."""
    return subprocess.run(
        [ROOT / "scripts/lab", "status", "--json"], env=lab.environment, capture_output=True, text=True, check=False
    ).stdout


def test_what_a_reboot_of_the_machine_loses_is_made_again(two: Lab) -> None:
    before = two.addresses()
    two.on("lab-1", "echo kept > /root/file; sync")
    for process, words in command_lines():
        if "vllm_fleet.lab.supervise" in words and f"{two.prefix}-lab-1" in words:
            os.kill(process, signal.SIGKILL)
    for process in two.processes("lab-1"):
        os.kill(process, signal.SIGKILL)
    run("umount", "--lazy", str(two.hosts / "lab-1/root"))
    run("ip", "link", "delete", f"{two.prefix}-br")
    run("nft", "delete", "table", "ip", f"{two.prefix}_lab")
    Path("/run/vllm-fleet-lab/labs", two.prefix).unlink()
    two.run("up")
    assert two.on(
        "lab-1", "cat /root/file; apt-get -q -o APT::Update::Error-Mode=any update >/dev/null; echo $?"
    ).split() == ["kept", "0"]
    assert two.on("lab-2", "hostname") == "lab-2"
    assert two.addresses() == before


def test_a_lab_beside_it_changes_nothing_and_leaves_nothing(two: Lab, other: Lab) -> None:
    before = two.traces()
    other.run("up", "lab-1", "lab-2")
    assert set(other.addresses().values()).isdisjoint(two.addresses().values())
    other.run("down", "lab-1")
    assert other.on("lab-2", "hostname") == "lab-2"
    other.run("down")
    assert {what: found for what, found in other.traces().items() if found} == {}
    assert two.traces()["cgroups"] == before["cgroups"]
    assert two.on("lab-1", "hostname") == "lab-1"


def begin_up(lab: Lab, *names: str, **variables: str) -> subprocess.Popen[str]:
    """Start `scripts/lab up` to be interrupted; a shell that runs the tests in the background ignores SIGINT."""
    return subprocess.Popen(
        [ROOT / "scripts/lab", "up", *names],
        env=lab.environment | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


@pytest.mark.parametrize("moment", [0.5, 1.0])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_up_is_taken_over_and_taken_down(other: Lab, number: signal.Signals, moment: float) -> None:
    process = begin_up(other, "lab-1", "lab-2", "lab-3")
    until("it has begun", lambda: any(other.traces().values()))
    time.sleep(moment)
    process.send_signal(number)
    output, _ = process.communicate(timeout=30)
    assert "Traceback" not in output, output
    other.run("up", "lab-1", "lab-2", "lab-3")
    assert other.on("lab-3", "hostname") == "lab-3"
    other.run("down")
    assert {what: found for what, found in other.traces().items() if found} == {}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_image_leaves_no_process_mount_or_directory(other: Lab, number: signal.Signals) -> None:
    cache = Path("/var/tmp", f"{other.prefix}-cache")
    shutil.rmtree(cache, ignore_errors=True)

    def builders() -> list[list[str]]:
        return [words for _, words in command_lines() if str(cache) in " ".join(words)]

    try:
        with begin_up(other, VLLM_FLEET_CACHE=str(cache)) as process:
            until("mmdebstrap unpacks", lambda: list(cache.glob("images/.building-*/root/usr")))
            process.send_signal(number)
            output, _ = process.communicate(timeout=30)
        assert "Traceback" not in output, output
        until("mmdebstrap has ended", lambda: not builders())
        assert str(cache) not in Path("/proc/mounts").read_text()
        if number == signal.SIGINT:
            assert list(cache.glob("images/.*")) == []
    finally:
        shutil.rmtree(cache, ignore_errors=True)
    other.run("down")
    assert {what: found for what, found in other.traces().items() if found} == {}
