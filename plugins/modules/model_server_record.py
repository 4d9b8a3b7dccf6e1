#!/usr/bin/python
"""Ansible module: note what running model servers report of their memory, for the next plan."""

from __future__ import annotations

DOCUMENTATION = r"""
module: model_server_record
short_description: Note what running model servers report of their memory
description:
  - Asks each running C(vllm-*.service) for its metrics, reads the log of its start and what its processes hold, and
    keeps the numbers in a file that M(model_server_facts) returns. The next plan prefers them to its estimates.
  - Nothing is written where the numbers of a start like this one are there. Files of servers without a unit go.
  - Never fails a run; what cannot be read is null.
options:
  timeout:
    description: Seconds that any one command may take.
    type: int
    default: 20
  records:
    description: Directory of the records.
    type: str
    default: /var/lib/vllm-fleet/measured
attributes:
  check_mode:
    support: full
    description: Says what it would note, and writes nothing.
author:
  - vllm-fleet contributors
"""

EXAMPLES = r"""
- name: Note what the servers take of memory
  model_server_record:
"""

RETURN = r"""
recorded:
  description: Servers whose numbers were noted.
  returned: always
  type: list
  elements: str
removed:
  description: Files that were removed.
  returned: always
  type: list
  elements: str
"""

import json  # noqa: E402
import os  # noqa: E402
import tempfile  # noqa: E402
from pathlib import Path  # noqa: E402

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible.module_utils.gpu_host.source import Source  # noqa: E402
from ansible.module_utils.model_servers.records import DIRECTORY, completed, read_record, says_more, stale  # noqa: E402
from ansible.module_utils.model_servers.reports import read_report  # noqa: E402
from ansible.module_utils.model_servers.units import read_units  # noqa: E402


def news(source, servers, directory):
    """Return the records of running servers that say something new, by the servers' names."""
    found = {}
    for name, server in servers.items():
        known = read_record(source, name, directory)
        if server["active"] != "active" or (known and known.get("invocation") == server["invocation"]):
            continue
        record = read_report(source, server)
        if says_more(record, known):
            found[name] = completed(record, known)
    return found


def write(module, path, record):
    """Write a record; readers find the former one or this one, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=module.tmpdir)
    with os.fdopen(descriptor, "w") as file:
        json.dump(record, file, indent=1, sort_keys=True)
    Path(temporary).chmod(0o644)
    module.atomic_move(temporary, str(path))


def main():
    """Run the module."""
    module = AnsibleModule(
        {"timeout": {"type": "int", "default": 20}, "records": {"type": "str", "default": DIRECTORY}},
        supports_check_mode=True,
    )
    directory = module.params["records"]
    source = Source("/", module.params["timeout"])
    servers = read_units(source)
    records, gone = news(source, servers, directory), stale(source, servers, directory)
    if not module.check_mode:
        try:
            for name, record in records.items():
                write(module, Path(directory, f"{name}.json"), record)
            for path in gone:
                Path(path).unlink()
        except OSError as problem:
            module.warn(f"cannot note what the model servers take of memory in {directory}: {problem}")
    module.exit_json(changed=bool(records or gone), recorded=sorted(records), removed=gone)


if __name__ == "__main__":
    main()
