"""Start and stop a host's systemd-nspawn: by systemd where it is init, else under a supervisor of our own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from vllm_fleet.errors import FleetError
from vllm_fleet.lab import cgroups
from vllm_fleet.lab.process import run, succeeds
from vllm_fleet.lab.supervise import REBOOT

# systemd-nspawn's tmpfs for /tmp would hold a tenth of memory; a server has /tmp on its disk.
ENVIRONMENT = {"SYSTEMD_NSPAWN_TMPFS_TMP": "0"}
ROOT = Path(__file__).resolve().parents[2]
STOP_SECONDS = 30.0


def systemd_is_init() -> bool:
    """Whether units can be started on this machine; this is sd_booted(3)."""
    return Path("/run/systemd/system").is_dir()


def unit(machine: str) -> str:
    """Name of the transient unit a host runs in."""
    return f"vllm-fleet-lab-{machine}.service"


def log_command(machine: str, log: Path) -> list[str]:
    """Return the command that prints what a host's console has shown; `log` as for `start`."""
    if systemd_is_init():
        return ["journalctl", "--no-pager", "--output=cat", "--lines=200", f"--unit={unit(machine)}"]
    return ["cat", str(log)]


def start(machine: str, command: list[str], log: Path) -> None:
    """Start a host that is not running.

    Args:
        machine: the host's name on this machine.
        command: systemd-nspawn and its arguments.
        log: file for its console where systemd is not init (elsewhere the journal has it).
    """
    if systemd_is_init():
        # Started from a login instead, all hosts would share its session's cgroups and end with it.
        properties = (
            *("Delegate=yes", "KillMode=mixed", "TasksMax=16384", f"TimeoutStopSec={STOP_SECONDS:.0f}"),
            *(f"RestartForceExitStatus={REBOOT}", f"SuccessExitStatus={REBOOT}", f"CPUWeight={cgroups.cpu_weight()}"),
        )
        options = [f"--description=Lab host {machine} of vllm-fleet"]
        options += [f"--property={value}" for value in properties]
        options += [f"--setenv={name}={value}" for name, value in ENVIRONMENT.items()]
        run(["systemd-run", "--quiet", "--collect", f"--unit={unit(machine)}", *options, *command])
        return
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    with log.open("wb") as output:
        subprocess.Popen(
            [sys.executable, "-m", "vllm_fleet.lab.supervise", machine, *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            cwd="/",
            env={**os.environ, **ENVIRONMENT, "PYTHONPATH": path},
        )


def is_running(machine: str) -> bool:
    """Whether a host is being run."""
    if systemd_is_init():
        return succeeds(["systemctl", "--quiet", "is-active", unit(machine)])
    return bool(_supervisors(machine))


def stop(machine: str, patience: float = STOP_SECONDS) -> None:
    """Shut a host down, or kill it after `patience` seconds; what a killed systemd-nspawn left is taken away, too.

    Raises:
        FleetError: it cannot even be killed.
    """
    if systemd_is_init():
        if not succeeds(["systemctl", "stop", unit(machine)], timeout=patience):
            succeeds(["systemctl", "kill", "--signal=KILL", unit(machine)])
            succeeds(["systemctl", "stop", unit(machine)])
    else:
        _stop_supervisor(machine, patience)
        cgroups.remove(machine)
    succeeds(["ip", "link", "delete", f"vb-{machine}"])
    # systemd-nspawn removes this only where /run is a tmpfs.
    for directory in (
        f"/run/systemd/nspawn/propagate/{machine}",
        "/run/systemd/nspawn/propagate",
        "/run/systemd/nspawn",
    ):
        with suppress(OSError):
            Path(directory).rmdir()


def _stop_supervisor(machine: str, patience: float) -> None:
    """Ask the supervisor to end its host; insist after a while."""
    for number, seconds in ((signal.SIGTERM, patience), (signal.SIGKILL, 5.0)):
        deadline = time.monotonic() + seconds
        for process in _supervisors(machine):
            with suppress(ProcessLookupError):
                os.kill(process, number)
        while _supervisors(machine):
            if time.monotonic() > deadline:
                break
            time.sleep(0.05)
        else:
            return
    raise FleetError(f"The supervisor of the lab host {machine} does not end: process {_supervisors(machine)}.")


def _supervisors(machine: str) -> list[int]:
    """Return the supervisors of a host: more than one only after something went wrong."""
    found = []
    here = Path("/proc/self/ns/pid").readlink()
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (process / "ns/pid").readlink() != here:  # of a lab inside a container on this machine
                continue
            words = (process / "cmdline").read_bytes().split(b"\0")
            state = (process / "stat").read_text().rpartition(")")[2].split()[0]
            if words[1:4] == [b"-m", b"vllm_fleet.lab.supervise", machine.encode()] and state != "Z":
                found.append(int(process.name))
    return found
