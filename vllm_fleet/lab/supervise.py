"""Keep one host running on a machine whose init is not systemd: start it again when it reboots, clear up when it ends.

Run as `python -m vllm_fleet.lab.supervise MACHINE COMMAND...`; where systemd is init, a transient unit does this.
"""

from __future__ import annotations

import signal
import subprocess
import sys

from vllm_fleet.lab import cgroups
from vllm_fleet.lab.process import succeeds

# systemd-nspawn's way to say that the host asked for a reboot.
REBOOT = 133


def supervise(machine: str, command: list[str]) -> int:
    """Run the host until it is shut down or dies; SIGTERM shuts it down. Returns the command's last exit status."""
    child: subprocess.Popen[bytes] | None = None
    stopping = False

    def stop(number: int, frame: object) -> None:
        nonlocal stopping
        stopping = True
        if child:
            child.send_signal(signal.SIGTERM)

    signal.signal(signal.SIGTERM, stop)
    status = REBOOT
    while status == REBOOT and not stopping:
        # After kill -9 of systemd-nspawn the host's init lives on, answers ssh, and holds its end of the cable.
        cgroups.remove(machine)
        succeeds(["ip", "link", "delete", f"vb-{machine}"])
        cgroups.create(machine)
        child = subprocess.Popen(command, preexec_fn=lambda: cgroups.enter(machine))
        if stopping:  # the signal came before there was anything to pass it on to
            child.send_signal(signal.SIGTERM)
        status = child.wait()
        cgroups.remove(machine)
    return status


if __name__ == "__main__":
    sys.exit(supervise(sys.argv[1], sys.argv[2:]))
