#!/usr/bin/python
"""Ansible module: read which model servers a host runs, how, and what they took of memory, in one round trip."""

from __future__ import annotations

DOCUMENTATION = r"""
module: model_server_facts
short_description: Read which model servers a host runs
description:
  - Reads the units C(vllm-*.service) of a host, the command lines and environments they run with, and the records
    that M(model_server_record) made of their starts.
  - A server that does not run is reported with what its unit says. Changes nothing, and never fails a run; what cannot
    be read is null.
options:
  timeout:
    description: Seconds that any one command may take.
    type: int
    default: 20
  records:
    description: Directory of the records.
    type: str
    default: /var/lib/vllm-fleet/measured
  root:
    description: Directory below which the host lies; see M(gpu_host_facts).
    type: str
    default: /
attributes:
  check_mode:
    support: full
    description: Changes nothing in either mode.
author:
  - vllm-fleet contributors
"""

EXAMPLES = r"""
- name: Read what runs on the host now
  model_server_facts:
"""

RETURN = r"""
ansible_facts:
  description: >-
    One fact, C(running_servers): a mapping of a server's name to C(unit), C(active) (as systemd says), C(since)
    (seconds since the epoch, null where it is not active), C(argv) (the words behind vllm), C(env), C(visible) (what
    CUDA sees, in rank order), C(gpus) (those of them that are indices), C(share) (its gpu_memory_utilization, null
    where the command line names none), C(release) of vLLM, and C(record) of its last recorded start, or null.
  returned: always
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible.module_utils.gpu_host.source import Source  # noqa: E402
from ansible.module_utils.model_servers.records import DIRECTORY, read_record  # noqa: E402
from ansible.module_utils.model_servers.units import read_units  # noqa: E402

SHOWN = ("unit", "active", "since", "argv", "env", "gpus", "visible", "share", "release")


def main():
    """Run the module."""
    module = AnsibleModule(
        {
            "timeout": {"type": "int", "default": 20},
            "records": {"type": "str", "default": DIRECTORY},
            "root": {"type": "str", "default": "/"},
        },
        supports_check_mode=True,
    )
    source = Source(module.params["root"], module.params["timeout"])
    servers = {
        name: dict({key: server[key] for key in SHOWN}, record=read_record(source, name, module.params["records"]))
        for name, server in read_units(source).items()
    }
    module.exit_json(changed=False, ansible_facts={"running_servers": servers})


if __name__ == "__main__":
    main()
