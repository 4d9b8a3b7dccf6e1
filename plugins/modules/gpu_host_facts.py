#!/usr/bin/python
"""Ansible module: read what planning needs to know of a host, in one round trip."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gpu_host_facts
short_description: Read what planning needs to know of a GPU host
description:
  - Reads platform, CPUs, memory, GPUs and clock of a host in one round trip and changes nothing.
  - A command that hangs is given up after O(timeout); what it would have told is then null.
options:
  timeout:
    description: Seconds that any one command may take.
    type: int
    default: 20
attributes:
  check_mode:
    support: full
    description: Changes nothing in either mode.
author:
  - vllm-fleet contributors
"""

EXAMPLES = r"""
- name: Read the host
  gpu_host_facts:
"""

RETURN = r"""
ansible_facts:
  description: One fact, C(gpu_host).
  returned: always
  type: dict
  contains:
    gpu_host:
      description: >-
        cpus (list of online core numbers this host may use), memory_total_bytes, memory_available_bytes,
        gpus (list of index, uuid, name, memory_total_mib; null without a working driver),
        listeners (list of port, pid, process and systemd unit of whoever listens on TCP),
        architecture, kernel, python, time (seconds since the epoch).
      type: dict
"""

import os  # noqa: E402
import platform  # noqa: E402
import subprocess  # noqa: E402
import time  # noqa: E402
from pathlib import Path  # noqa: E402

from ansible.module_utils.basic import AnsibleModule  # noqa: E402

NVIDIA_SMI = ["nvidia-smi", "--query-gpu=index,uuid,name,memory.total", "--format=csv,noheader,nounits"]


def read_memory(path="/proc/meminfo"):
    """Return (total, available) bytes of main memory."""
    lines = Path(path).read_text().splitlines()
    sizes = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if "kB" in line}
    return sizes["MemTotal"], sizes["MemAvailable"]


def parse_gpus(text):
    """Read the lines of nvidia-smi's csv query into one mapping per GPU."""
    gpus = []
    for line in text.splitlines():
        parts = [part.strip() for part in line.split(",")]
        # A GPU that fell off the bus prints a sentence instead of a row, or [N/A] for its memory.
        if len(parts) == 4 and parts[0].isdigit() and parts[3].isdigit():
            gpus.append({"index": int(parts[0]), "uuid": parts[1], "name": parts[2], "memory_total_mib": int(parts[3])})
    return gpus


def read_gpus(timeout):
    """Return the GPUs the driver reports, or None where no driver answers in time."""
    try:
        answer = subprocess.run(NVIDIA_SMI, capture_output=True, text=True, timeout=timeout, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return parse_gpus(answer.stdout)


def listening_inodes(text):
    """Map socket inode to port for each listening socket of /proc/net/tcp or tcp6."""
    rows = [line.split() for line in text.splitlines()[1:]]
    return {row[9]: int(row[1].rpartition(":")[2], 16) for row in rows if row[3] == "0A"}


def unit_of(cgroup):
    """Return the systemd service in the text of /proc/PID/cgroup, or None."""
    names = [part for line in cgroup.splitlines() for part in line.split("/") if part.endswith(".service")]
    return names[-1] if names else None


def read_text(path):
    """Return the text of a file of /proc, or an empty string where the process is gone."""
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def read_listeners():
    """Return who listens on which TCP port; needs root to see other users' processes."""
    ports = {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        ports.update(listening_inodes(read_text(table)))
    listeners = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            links = [os.readlink(fd) for fd in (process / "fd").iterdir()]  # noqa: PTH115 - Path.readlink is 3.9
        except OSError:
            continue
        for inode in {link[8:-1] for link in links if link.startswith("socket:[")} & set(ports):
            listeners.append(
                {
                    "port": ports[inode],
                    "pid": int(process.name),
                    "process": read_text(process / "comm").strip(),
                    "unit": unit_of(read_text(process / "cgroup")),
                }
            )
    return sorted(listeners, key=lambda listener: (listener["port"], listener["pid"]))


def main():
    """Run the module."""
    module = AnsibleModule({"timeout": {"type": "int", "default": 20}}, supports_check_mode=True)
    total, available = read_memory()
    facts = {
        "cpus": sorted(os.sched_getaffinity(0)),
        "memory_total_bytes": total,
        "memory_available_bytes": available,
        "gpus": read_gpus(module.params["timeout"]),
        "listeners": read_listeners(),
        "architecture": platform.machine(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "time": time.time(),
    }
    module.exit_json(changed=False, ansible_facts={"gpu_host": facts})


if __name__ == "__main__":
    main()
