#!/usr/bin/python
"""Ansible module: read what planning, preflight and the driver's role need to know of a host, in one round trip."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gpu_host_facts
short_description: Read a GPU host
description:
  - Reads platform, kernels, processors, memory, GPUs, driver, clock and disks of a host in one round trip.
  - Changes nothing. Needs nothing on the host but Python 3.8; without a driver, GPUs are known by their PCI ids.
  - Every command and every group of files is read in a process of its own and given up after a time, one that
    cannot be killed included. What could not be read is null; C(unread) says why.
options:
  timeout:
    description: Seconds that any one command may take.
    type: int
    default: 20
  paths:
    description: Paths whose file systems are reported; of one that does not exist, the nearest parent that does.
    type: list
    elements: str
    default: []
  root:
    description:
      - Directory below which the host lies. With another one than V(/) a recorded host is read; its commands are
        answered from C(commands.json) there, which gives rc, stdout, stderr and hangs for each command line.
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
- name: Read the host
  gpu_host_facts:
    paths: [/opt, /srv/models]
"""

RETURN = r"""
ansible_facts:
  description: One fact, C(gpu_host). Unknown is null everywhere.
  returned: always
  type: dict
  contains:
    gpu_host:
      description: The host.
      type: dict
      contains:
        os:
          description: C(id), C(id_like) (list), C(version_id), C(name), from os-release.
          type: dict
        architecture: {description: As C(uname -m) says., type: str}
        kernel: {description: Release of the running kernel., type: str}
        python: {description: Version of the Python that runs this module., type: str}
        systemd: {description: "Its version, such as 252.", type: int}
        boot_id: {description: Changes with every boot., type: str}
        time: {description: Seconds since the epoch on the host., type: float}
        time_synchronized: {description: Whether the kernel's clock is kept by a time source., type: bool}
        virtualization: {description: "As systemd-detect-virt says: none, kvm, systemd-nspawn ...", type: str}
        cpus: {description: Numbers of the processors that may be used., type: list, elements: int}
        memory_total_bytes: {description: Main memory., type: int}
        memory_available_bytes: {description: What programs can still have., type: int}
        shm_bytes: {description: Size of /dev/shm., type: int}
        numa_nodes:
          description: C(node), C(cpus) (such as 0-15), C(memory_bytes).
          type: list
          elements: dict
        iommu:
          description: C(enabled), and C(passthrough), whether GPUs reach memory without translation.
          type: dict
        kernels:
          description: >-
            Every installed kernel: C(release), C(headers) (whether modules can be built for it),
            C(nvidia_module) (path of the module it would load).
          type: list
          elements: dict
        secure_boot:
          description: C(enabled), and C(mok_enrolled), whether the firmware trusts the key that DKMS signs with.
          type: dict
        compiler:
          description: C(cc), such as gcc 12.2.0, and C(kernel_cc), what the running kernel was built with.
          type: dict
        pci_gpus:
          description: >-
            NVIDIA's GPUs on the PCI bus: C(address), C(id), C(name), C(architecture), C(compute_capability),
            C(driver) bound to it, C(numa_node), C(responds) (false where it fell off the bus).
          type: list
          elements: dict
        nvswitches: {description: "C(address), C(id), C(driver).", type: list, elements: dict}
        nvidia:
          description: The driver.
          type: dict
          contains:
            module:
              description: >-
                C(loaded), C(version), C(open), C(licence), C(parameters); version and open are those of the loaded
                module, else of the one that lies ready for the running kernel.
              type: dict
            uvm_loaded: {description: Whether nvidia-uvm is loaded., type: bool}
            nouveau_loaded: {description: Whether nouveau is loaded., type: bool}
            nova_loaded: {description: Whether nova-core is loaded., type: bool}
            userspace_version: {description: Version of the libraries that programs get., type: str}
            firmware_versions: {description: Versions of the GSP firmware on disk., type: list, elements: str}
            fabric_manager: {description: "C(version), C(active), C(log) (its last line).", type: dict}
            persistenced: {description: "C(active), C(user) it runs as.", type: dict}
            cuda_version: {description: The newest CUDA that the driver serves., type: str}
            smi:
              description: >-
                C(state) of nvidia-smi: V(ok), V(missing), V(failed) or V(hangs); C(message), what it complained of.
              type: dict
            devices: {description: The driver's device files by their names below /dev., type: list, elements: str}
            xids:
              description: >-
                The driver's errors in the kernel log of this boot: C(pci), C(xid), C(message) (the first), C(count).
              type: list
              elements: dict
            holders:
              description: >-
                Processes that have a GPU's device file open, known even where nvidia-smi hangs: C(pid), C(name),
                C(user), C(unit), C(devices).
              type: list
              elements: dict
        gpus:
          description: >-
            GPUs as the driver reports them, null where none answers: C(index), C(uuid), C(pci_address), C(name),
            C(architecture), C(compute_capability), C(memory_total_mib), C(memory_used_mib), C(memory_free_mib),
            C(persistence), C(mig), C(mig_devices) (C(index), C(uuid), C(profile), C(gpu_instance),
            C(compute_instance), C(memory_total_mib), C(memory_used_mib), C(memory_free_mib)), C(ecc),
            C(ecc_uncorrected) (since the driver was loaded), C(remap_pending), C(remap_failure), C(recovery_action)
            (None where none is called for), C(fabric_state), C(fabric_status), C(minor), C(processes) (C(pid), C(name),
            C(used_mib), C(gpu_instance), C(user), C(unit)).
          type: list
          elements: dict
        links:
          description: >-
            How each pair of GPUs C(a), C(b) is connected: C(type) V(NV18) (18 NVLinks), V(PIX), V(PXB), V(PHB),
            V(NODE) or V(SYS).
          type: list
          elements: dict
        disks:
          description: "C(path) as asked for, C(mount), C(free_bytes), C(total_bytes)."
          type: list
          elements: dict
        listeners:
          description: "Who listens on TCP: C(port), C(pid), C(process), C(unit)."
          type: list
          elements: dict
        selinux:
          description: C(enforcing), and C(haproxy_connect_any), whether the boolean of this name is on.
          type: dict
        firewalls:
          description: >-
            Which of ufw and firewalld is active and refuses what it does not know: C(name), and C(open), what it lets
            in: C(first) and C(last) port, C(source) (null for anybody). Of firewalld the default zone.
          type: list
          elements: dict
        unread:
          description: C(probe) and C(reason) of what could not be read.
          type: list
          elements: dict
"""

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible.module_utils.gpu_host.collect import collect  # noqa: E402


def main():
    """Run the module."""
    module = AnsibleModule(
        {
            "timeout": {"type": "int", "default": 20},
            "paths": {"type": "list", "elements": "str", "default": []},
            "root": {"type": "str", "default": "/"},
        },
        supports_check_mode=True,
    )
    facts = collect(module.params["root"], module.params["timeout"], module.params["paths"])
    module.exit_json(changed=False, ansible_facts={"gpu_host": facts})


if __name__ == "__main__":
    main()
