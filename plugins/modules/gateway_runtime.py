#!/usr/bin/python
"""Ansible module: write HAProxy's maps and certificates, and have a running HAProxy take them over without a reload."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gateway_runtime
short_description: Write HAProxy's maps and certificates, and have a running HAProxy take them over without a reload
description:
  - Writes the files, which HAProxy reads when it starts, for root alone.
  - Compares what a running HAProxy holds in memory with them, and replaces what differs by its admin socket. A map is
    replaced as a whole, so that no request sees half of it; a certificate is served to new connections, open ones stay.
  - A HAProxy that does not run, or whose configuration does not know such a file yet, is left alone; reload it.
  - Neither maps nor certificates are logged or returned.
options:
  socket:
    description: HAProxy's admin socket.
    type: path
    default: /run/vllm-gateway/admin.sock
  maps:
    description: What each map is to hold, keys and values, by the path of its file as the configuration has it.
    type: dict
    default: {}
  certificates:
    description: Certificate, chain and private key as one PEM, by the path of its file as the configuration has it.
    type: dict
    default: {}
  timeout:
    description: Seconds that HAProxy may take for an answer.
    type: int
    default: 10
attributes:
  check_mode:
    support: full
    description: Compares, and neither writes nor replaces anything.
author:
  - vllm-fleet contributors
"""

EXAMPLES = r"""
- name: Let new keys in
  gateway_runtime:
    maps:
      /etc/vllm-gateway/maps/keys.map: "{{ gateway_plan.maps['keys.map'] }}"
"""

RETURN = r"""
files:
  description: Files that were written.
  returned: success
  type: list
  elements: str
maps:
  description: Files of the maps that were replaced in the running HAProxy.
  returned: success
  type: list
  elements: str
certificates:
  description: Files of the certificates that were replaced in the running HAProxy.
  returned: success
  type: list
  elements: str
description:
  description: >-
    What the running HAProxy's configuration calls itself (V(description) in its section global); empty where none runs.
  returned: success
  type: str
"""

import os  # noqa: E402
from pathlib import Path  # noqa: E402

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible.module_utils.haproxy import (  # noqa: E402
    NotThere,
    Runtime,
    RuntimeProblem,
    check_entries,
    fingerprint,
    read_map,
    replace_certificate,
    replace_map,
    same_map,
    shown_certificate,
)


def other_map(runtime, path, entries):
    """Whether a map holds something else than is wanted."""
    return not same_map(read_map(runtime, path), entries)


def other_certificate(runtime, path, pem):
    """Whether a certificate is not the one that is served."""
    return shown_certificate(runtime, path) != fingerprint(pem)


def differing(look, runtime, wanted):
    """Return the paths at which `look` finds something else than is wanted, but not those it does not know yet."""
    paths = []
    for path, content in wanted.items():
        try:
            if look(runtime, path, content):
                paths.append(path)
        except NotThere:
            continue
    return paths


def description(runtime):
    """Return the description of the running HAProxy, "" where none runs."""
    try:
        lines = runtime.ask("show info").splitlines()
    except NotThere:
        return ""
    return next((line.partition(": ")[2] for line in lines if line.startswith("description: ")), "none")


def outdated(path, text):
    """Whether a file is not there as it should be: its content, for the user this runs as alone, which is root."""
    file = Path(path)
    try:
        state = file.stat()
        owner = (os.geteuid(), os.getegid())
        return file.read_text() != text or state.st_mode & 0o777 != 0o600 or (state.st_uid, state.st_gid) != owner
    except (OSError, UnicodeDecodeError):
        return True


def write(path, text):
    """Replace a file so that a reader sees the former or the new one."""
    new = Path(f"{path}.new")
    new.unlink(missing_ok=True)
    new.touch(0o600)
    with new.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def main():
    """Run the module."""
    module = AnsibleModule(
        {
            "socket": {"type": "path", "default": "/run/vllm-gateway/admin.sock"},
            "maps": {"type": "dict", "default": {}, "no_log": True},
            "certificates": {"type": "dict", "default": {}, "no_log": True},
            "timeout": {"type": "int", "default": 10},
        },
        supports_check_mode=True,
    )
    # Results hold nothing of the values, but values such as "1" or "llm" would be cut out of the paths in them.
    module.no_log_values.clear()
    given, certificates = module.params["maps"], module.params["certificates"]
    maps = {path: {str(key): str(value) for key, value in entries.items()} for path, entries in given.items()}
    runtime = Runtime(module.params["socket"], module.params["timeout"])
    try:
        for path, entries in maps.items():
            check_entries(path, entries)
        texts = {path: "".join(f"{key} {value}\n" for key, value in entries.items()) for path, entries in maps.items()}
        texts.update(certificates)
        files = [path for path, text in texts.items() if outdated(path, text)]
        replaced = {
            "maps": differing(other_map, runtime, maps),
            "certificates": differing(other_certificate, runtime, certificates),
        }
        if not module.check_mode:
            for path in files:
                write(path, texts[path])
            for path in replaced["maps"]:
                replace_map(runtime, path, maps[path])
            for path in replaced["certificates"]:
                replace_certificate(runtime, path, certificates[path])
        running = description(runtime)
    except RuntimeProblem as problem:
        module.fail_json(msg=str(problem), invocation={})
    except OSError as error:
        module.fail_json(msg=f"{error.filename} cannot be written: {error.strerror}.", invocation={})
    module.exit_json(
        changed=bool(files or any(replaced.values())), invocation={}, files=files, description=running, **replaced
    )


if __name__ == "__main__":
    main()
