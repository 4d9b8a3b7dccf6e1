#!/usr/bin/python
"""Ansible module: compare the nftables table before the model servers' ports with what it should be."""

from __future__ import annotations

DOCUMENTATION = r"""
module: model_firewall_facts
short_description: Compare the table before the model servers' ports with what it should be
description:
  - Resolves who is to be admitted, writes the rules, and compares them with the table C(inet vllm_fleet) in the kernel.
  - What the rules look like in a kernel is found by loading them in an empty network namespace, so that every version
    of nft is compared with itself, and rules that nft refuses are known beforehand. Changes nothing on the host.
options:
  ports:
    description: Ports of model servers that only gateways may reach; empty where there are none to close.
    type: list
    elements: int
    required: true
  admitted:
    description: Addresses, networks and names that are admitted, by what messages call them.
    type: dict
    required: true
  platforms:
    description: How packages are installed, by platform; as in M(vllm_runtime_facts).
    type: dict
    required: true
attributes:
  check_mode:
    support: full
    description: Changes nothing in either mode.
author:
  - vllm-fleet contributors
"""

EXAMPLES = r"""
- name: Compare
  model_firewall_facts:
    ports: [32804]
    admitted: {gateway gw-1: 192.0.2.5}
    platforms: {debian: {refresh: [apt-get, update]}}
"""

RETURN = r"""
findings:
  description: What keeps the ports from being closed, each with a stable code and a message with its remedy.
  returned: always
  type: list
  elements: dict
ruleset:
  description: What nft is to read; empty where no ports are to be closed.
  returned: always
  type: str
networks:
  description: Who is admitted, as addresses and networks.
  returned: always
  type: list
  elements: str
installed:
  description: Whether nft is there.
  returned: always
  type: bool
table:
  description: Whether the table is in the kernel.
  returned: always
  type: bool
current:
  description: Whether it is what O(ports) and O(admitted) ask for.
  returned: always
  type: bool
platform:
  description: The data of O(platforms) that apply to the host.
  returned: always
  type: dict
"""

import socket  # noqa: E402
from pathlib import Path  # noqa: E402

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible.module_utils.findings import error  # noqa: E402
from ansible.module_utils.model_firewall import TABLE, admitted, ruleset  # noqa: E402
from ansible.module_utils.platforms import parse_os_release, platform_data  # noqa: E402

LIST = ["-s", "list", "table", *TABLE]


def addresses(name):
    """Return the addresses of a host's name, none where it is not known."""
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return sorted({address[4][0].partition("%")[0] for address in found})


def in_kernel(module, nft):
    """Return the table as nft lists it, without counters; empty where there is none."""
    code, out, _err = module.run_command([nft, *LIST])
    return out if code == 0 else ""


def as_loaded(module, nft, rules):
    """Return (the table as nft lists it once `rules` are loaded, what nft complains of)."""
    code, out, err = module.run_command(
        ["unshare", "--net", "sh", "-c", '"$0" -f - && "$0" "$@"', nft, *LIST], data=rules
    )
    return (out, "") if code == 0 else ("", (err or out).strip())


def findings(reasons, complaint, installable):
    """Return what keeps the ports from being closed.

    Args:
        reasons: why somebody cannot be admitted.
        complaint: of nft about the rules.
        installable: whether nft is there or can be installed.
    """
    remedy = "Give its address: ansible_host of a gateway, as other hosts reach it, or model_firewall_admitted."
    found = [error("firewall-admission", f"{reason}. {remedy}") for reason in reasons]
    if complaint:
        found.append(error("firewall-rules", f"nft refuses the rules for the model servers' ports: {complaint}"))
    if not installable:
        found.append(
            error("firewall-rules", "nft is not there, and how this system installs it is not known. Install nftables.")
        )
    return found


def main():
    """Run the module."""
    module = AnsibleModule(
        {
            "ports": {"type": "list", "elements": "int", "required": True},
            "admitted": {"type": "dict", "required": True},
            "platforms": {"type": "dict", "required": True},
        },
        supports_check_mode=True,
    )
    ports = module.params["ports"]
    data = platform_data(parse_os_release(Path("/etc/os-release").read_text()), module.params["platforms"])
    nft = module.get_bin_path("nft", opt_dirs=["/usr/sbin", "/sbin"])
    networks, reasons = admitted(module.params["admitted"], addresses) if ports else ([], [])
    rules = ruleset(ports, networks) if ports else ""
    now = in_kernel(module, nft) if nft else ""
    wanted, complaint = as_loaded(module, nft, rules) if nft and rules else ("", "")
    module.exit_json(
        changed=False,
        findings=findings(reasons, complaint, bool(nft or data or not rules)),
        ruleset=rules,
        networks=networks,
        installed=bool(nft),
        table=bool(now),
        current=now == wanted and not (rules and not nft),
        platform=data,
    )


if __name__ == "__main__":
    main()
