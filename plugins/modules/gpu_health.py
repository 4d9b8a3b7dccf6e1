#!/usr/bin/python
"""Ansible module: prove that CUDA works on every GPU of a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gpu_health
short_description: Prove that CUDA works on every GPU of a host
description:
  - Opens a CUDA context on every GPU by the driver's own library, copies random bytes to it, on it, back, and to every
    other GPU, and compares them. Needs the driver only. Measures and judges nothing; changes nothing.
  - Each GPU is tried in a process of its own that is given up after O(timeout), even where it cannot be killed.
options:
  timeout:
    description: Seconds that one GPU, or all copies between GPUs, may take.
    type: int
    default: 120
  copy_mib:
    description: MiB to copy.
    type: int
    default: 64
  peers:
    description: Whether to copy between GPUs, too.
    type: bool
    default: true
  fabric_timeout:
    description: Seconds to wait for a fabric that is not ready yet (CUDA error 802).
    type: int
    default: 0
  user:
    description: User to prove it as, in a transient unit; empty for the user of the module.
    type: str
    default: ""
  sandbox:
    description: Properties of that transient unit, such as V(DevicePolicy=closed).
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
- name: Prove the GPUs
  gpu_health:
    fabric_timeout: 300
  register: proof
"""

RETURN = r"""
proof:
  description: >-
    error (what keeps CUDA from working at all, or null), cuda_version, seconds, gpus (index, name, pci_address, uuid,
    compute_capability, memory_total_bytes, memory_free_bytes, gb_per_s_to_gpu, gb_per_s_to_host, seconds by step,
    error), peers (from, to, direct, gb_per_s, error). An error has kind (library, cuda, hang, crash, data), step, code,
    name and text.
  returned: always
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible.module_utils.cuda_probe import MAX_MIB, prove  # noqa: E402

GRACE_SECONDS = 10  # systemd ends a unit that is given up, and that its manager could not reach, this much later


def transient_unit(user, sandbox, limit):
    """Return the command that runs what follows as a user within a sandbox."""
    properties = [f"User={user}", f"Group={user}", f"RuntimeMaxSec={limit + GRACE_SECONDS}", *sandbox]
    command = ["systemd-run", "--quiet", "--pipe", "--wait", "--collect", "--service-type=exec"]
    return [*command, *(f"--property={each}" for each in properties)]


def main():
    """Run the module."""
    module = AnsibleModule(
        {
            "timeout": {"type": "int", "default": 120},
            "copy_mib": {"type": "int", "default": 64},
            "peers": {"type": "bool", "default": True},
            "fabric_timeout": {"type": "int", "default": 0},
            "user": {"type": "str", "default": ""},
            "sandbox": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    params = module.params
    if not 1 <= params["copy_mib"] <= MAX_MIB:
        module.fail_json(msg=f"copy_mib is {params['copy_mib']}; it may be 1 to {MAX_MIB} (gpu_health_copy_mib)")
    prefix = transient_unit(params["user"], params["sandbox"], params["timeout"]) if params["user"] else []
    proof = prove(
        params["copy_mib"] << 20, params["timeout"], params["fabric_timeout"], peers=params["peers"], prefix=prefix
    )
    module.exit_json(changed=False, proof=proof)


if __name__ == "__main__":
    main()
