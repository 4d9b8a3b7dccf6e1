#!/usr/bin/python
"""Ansible module: tell whether anybody holds the package manager of a host, and who."""

from __future__ import annotations

DOCUMENTATION = r"""
module: package_manager_idle
short_description: Tell whether anybody holds the package manager of a host
description:
  - Looks at lock files, at units that install packages in the background, and at cloud-init. Changes nothing and
    does not wait; repeat it with C(until).
  - The package modules' own lock time-out covers only one of several locks.
options:
  locks:
    description: Lock files of the package manager.
    type: list
    elements: path
    required: true
  units:
    description: Units that use the package manager in the background.
    type: list
    elements: str
    default: []
attributes:
  check_mode:
    support: full
    description: Changes nothing in either mode.
author:
  - vllm-fleet contributors
"""

EXAMPLES = r"""
- name: Wait until nobody else installs packages
  package_manager_idle:
    locks: [/var/lib/dpkg/lock-frontend]
    units: [apt-daily.service]
  register: package_manager
  until: package_manager.idle
  retries: 60
  delay: 10
"""

RETURN = r"""
idle:
  description: Whether nobody holds it.
  returned: always
  type: bool
msg:
  description: Who holds it.
  returned: always
  type: str
"""

import fcntl  # noqa: E402
import os  # noqa: E402
import struct  # noqa: E402
from pathlib import Path  # noqa: E402

from ansible.module_utils.basic import AnsibleModule  # noqa: E402

FLOCK = "hhqqi4x"  # struct flock on 64-bit Linux: type, whence, start, length, pid


def holder(path):
    """Return the pid of the process that holds a POSIX lock on `path`, or None. Takes no lock itself."""
    try:
        descriptor = os.open(str(path), os.O_RDWR)
    except OSError:
        return None
    try:
        asked = struct.pack(FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        kind, _whence, _start, _length, pid = struct.unpack(FLOCK, fcntl.fcntl(descriptor, fcntl.F_GETLK, asked))
    finally:
        os.close(descriptor)
    return None if kind == fcntl.F_UNLCK else pid


def process_name(pid):
    """Return the name of a process, or a question mark when it is gone."""
    try:
        return Path("/proc", str(pid), "comm").read_text().strip()
    except OSError:
        return "?"


def cloud_init_runs(run=Path("/run/cloud-init")):
    """Whether this boot's cloud-init is enabled and has not ended."""
    return (run / "enabled").exists() and not (run / "result.json").exists()


def main():
    """Run the module."""
    module = AnsibleModule(
        {
            "locks": {"type": "list", "elements": "path", "required": True},
            "units": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    found = ["cloud-init has not ended (cloud-init status --long)"] if cloud_init_runs() else []
    for path in module.params["locks"]:
        pid = holder(path)
        if pid is not None:
            found.append(f"{process_name(pid)} (pid {pid}) holds {path}")
    for unit in module.params["units"]:
        _code, out, _err = module.run_command(["systemctl", "is-active", unit])
        if out.strip() in ("active", "activating", "reloading"):
            found.append(f"{unit} is running")
    module.exit_json(changed=False, idle=not found, msg="; ".join(found) or "nobody else installs packages")


if __name__ == "__main__":
    main()
