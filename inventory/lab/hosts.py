#!/usr/bin/env python3
"""Dynamic inventory: the hosts of the lab on this machine by their groups, as `scripts/lab` has noted them.

A GPU host is its own gateway, unless the lab has hosts for gateways. Hosts of the group clients are there to try things
from; no playbook deploys to them.
VLLM_FLEET_LAB names the lab (default: fleet), VLLM_FLEET_LAB_STATE the directory of its state.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

STATE = Path(os.environ.get("VLLM_FLEET_LAB_STATE") or "/var/lib/vllm-fleet-lab")
PREFIX = os.environ.get("VLLM_FLEET_LAB") or "fleet"


def inventory(lab: Path) -> dict[str, Any]:
    """Return the inventory of the lab whose state is in `lab`, in the form Ansible asks for."""
    hosts = [{"group": "gpu_hosts"} | json.loads(file.read_text()) for file in lab.glob("hosts/*/host.json")]
    variables = {host["name"]: {"ansible_host": host["address"]} for host in hosts}
    options = (
        "-F /dev/null -o IdentitiesOnly=yes -o StrictHostKeyChecking=yes "
        f"-o UserKnownHostsFile={lab / 'known_hosts'} -o GlobalKnownHostsFile=/dev/null"
    )
    connection = {
        "ansible_user": "root",
        "ansible_ssh_private_key_file": str(lab / "id_ed25519"),
        "ansible_ssh_common_args": options,
        "ansible_python_interpreter": "/usr/bin/python3",
    }
    # Not with the group all: its variables hold for localhost, too, to which tasks are delegated.
    groups: dict[str, Any] = {"gateways": {"children": ["gpu_hosts"]}}
    for group in sorted({host["group"] for host in hosts}):
        members = sorted(host["name"] for host in hosts if host["group"] == group)
        groups[group] = {"hosts": members, "vars": connection}
    return {**groups, "_meta": {"hostvars": variables}}


def complaint(found: dict[str, Any]) -> str:
    """Return why there is nothing to deploy to, and what to do; "" where there is a host for GPUs."""
    if "gpu_hosts" in found:
        return ""
    if others := sorted(found["_meta"]["hostvars"]):
        return (
            f"The lab '{PREFIX}' has no host in the group gpu_hosts to deploy to, only {', '.join(others)}. "
            "Make one with 'scripts/lab up lab-1'."
        )
    return (
        f"The lab '{PREFIX}' is not up: no hosts in {STATE / PREFIX}. Make them with 'make quickstart' "
        "(or scripts/lab up), or name your own hosts with -i inventory/..."
    )


def main() -> int:
    """Print the inventory; Ansible calls this with --list (and, without need here, --host NAME)."""
    lab = STATE / PREFIX
    if lab.is_dir() and not os.access(lab, os.R_OK | os.X_OK):
        print(f"Only root can read the lab '{PREFIX}' in {lab}: run this with sudo.", file=sys.stderr)
        return 2
    found = inventory(lab)
    if reason := complaint(found):
        print(reason, file=sys.stderr)
        return 2
    json.dump({} if "--host" in sys.argv else found, sys.stdout, indent=2)
    print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
