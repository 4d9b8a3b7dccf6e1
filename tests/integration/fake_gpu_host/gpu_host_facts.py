#!/usr/bin/python
"""FAKE of the module gpu_host_facts, for hosts that have no GPU: a machine as /etc/fake-gpu-host.json describes it.

Its kernel module behaves as a real one does between boots: the first look after a boot loads what is installed for the
running kernel; what is loaded stays, whatever happens to the packages, until the next boot (/run is empty then).
"""

from __future__ import annotations

import json
import platform
import subprocess
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

LOADED = Path("/run/fake-nvidia-module")
NOUVEAU = Path("/run/fake-nouveau")


def main():
    """Run the module."""
    module = AnsibleModule({"timeout": {"type": "int", "default": 20}}, supports_check_mode=True)
    described = json.loads(Path("/etc/fake-gpu-host.json").read_text())
    release = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
    file = Path("/lib/modules", described["kernel"], "updates/dkms/nvidia.ko")
    if file.exists() and not LOADED.exists() and not NOUVEAU.exists():
        LOADED.write_bytes(subprocess.check_output(["modinfo", "--field", "version", str(file)]))
        Path("/dev/nvidiactl").touch()
    version = LOADED.read_text().strip() if LOADED.exists() else None
    host = {
        "os": {"id": release["ID"], "id_like": [], "version_id": release["VERSION_ID"].strip('"'), "name": "Debian"},
        "architecture": platform.machine(),
        "secure_boot": {"enabled": False, "mok_enrolled": None},
        "pci_gpus": [],
        "nvswitches": [],
        "nvidia": {
            "module": {"loaded": bool(version), "version": version, "open": True if version else None},
            "nouveau_loaded": NOUVEAU.exists(),
            "nova_loaded": False,
            "devices": [path.name for path in Path("/dev").glob("nvidia*")],
        },
        **described,
    }
    module.exit_json(changed=False, ansible_facts={"gpu_host": host})


if __name__ == "__main__":
    main()
