#!/usr/bin/python
"""Ansible module: tell which packages are installed, and in which versions."""

from __future__ import annotations

DOCUMENTATION = r"""
module: package_versions
short_description: Tell which packages are installed, and in which versions
description:
  - Asks dpkg or rpm, whichever manages the host, for some packages only. Changes nothing.
options:
  names:
    description: Names of packages, or patterns such as V(datacenter-gpu-manager*).
    type: list
    elements: str
    required: true
attributes:
  check_mode:
    support: full
    description: Changes nothing in either mode.
author:
  - vllm-fleet contributors
"""

EXAMPLES = r"""
- name: See whether DCGM is there
  package_versions:
    names: ["datacenter-gpu-manager*"]
  register: dcgm
"""

RETURN = r"""
versions:
  description: Version of each installed package, by its name.
  returned: always
  type: dict
"""

from pathlib import Path  # noqa: E402

from ansible.module_utils.basic import AnsibleModule  # noqa: E402

DPKG = ["dpkg-query", "--show", "--showformat=${Package}\\t${Version}\\t${db:Status-Status}\\n"]
RPM = ["rpm", "--query", "--all", "--queryformat=%{NAME}\\t%{VERSION}-%{RELEASE}\\tinstalled\\n"]


def parse(text):
    """Read lines of name, version and state; removed packages of which only the configuration is left do not count."""
    rows = [line.split("\t") for line in text.splitlines()]
    return {row[0]: row[1] for row in rows if len(row) == 3 and row[2] == "installed"}


def main():
    """Run the module."""
    module = AnsibleModule({"names": {"type": "list", "elements": "str", "required": True}}, supports_check_mode=True)
    command = DPKG if Path("/var/lib/dpkg/status").exists() else RPM
    # dpkg-query fails where any one is unknown, and prints the others nevertheless.
    _code, out, _err = module.run_command([*command, *module.params["names"]])
    module.exit_json(changed=False, versions=parse(out))


if __name__ == "__main__":
    main()
