#!/usr/bin/python
"""Ansible module: take a model server out of a gateway, or put it back, and wait for it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gateway_server_state
short_description: Take a model server out of a gateway, or put it back
description:
  - With O(state=drained) the gateway sends the server nothing new, and the module waits until what it works on has been
    answered. With O(state=ready) the gateway uses it again, and the module waits until its checks find it up.
  - Requests count that a former process of HAProxy, which a reload left to end in peace, still has under way with it.
options:
  socket:
    description: HAProxy's admin socket.
    type: path
    default: /run/vllm-gateway/admin.sock
  master_socket:
    description: Socket of HAProxy's master process, which knows the former ones. Where there is none, none is counted.
    type: path
    default: /run/vllm-gateway/master.sock
  server:
    description: Name of the model server. Its backend is C(server_<name>).
    type: str
    required: true
  host:
    description: Name of the host it runs on, which is the name of its line in the backend.
    type: str
    required: true
  state:
    description: What is wanted of it. V(present) only tells how it is.
    type: str
    choices: [drained, ready, present]
    default: present
  timeout:
    description: Seconds to wait. After them the module fails, and the server stays taken out, or put back.
    type: int
    default: 660
attributes:
  check_mode:
    support: full
    description: Tells what it would change, and waits for nothing.
author:
  - vllm-fleet contributors
"""

EXAMPLES = r"""
- name: Let the language model of this host finish what it answers
  gateway_server_state:
    server: llm
    host: gpu-1
    state: drained
  delegate_to: gateway-1
"""

RETURN = r"""
up:
  description: Whether the gateway sends it requests.
  returned: success
  type: bool
drained:
  description: Whether it was taken out.
  returned: success
  type: bool
sessions:
  description: Requests that it works on, or that wait for it.
  returned: success
  type: int
status:
  description: Its state in HAProxy's own words.
  returned: success
  type: str
check:
  description: What its last check found, in HAProxy's own words.
  returned: success
  type: str
"""

import time  # noqa: E402

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible.module_utils.haproxy import Runtime, RuntimeProblem  # noqa: E402
from ansible.module_utils.haproxy_servers import former_sessions, read_server, set_server  # noqa: E402

INTERVAL = 0.5  # seconds between two looks


def reached(found, state):
    """Whether a server is as wanted, the wait included."""
    return found["drain"] and found["sessions"] == 0 if state == "drained" else found["up"]


def wait(look, state, timeout):
    """Look until the server is as wanted or `timeout` seconds are over. Returns the last look."""
    deadline = time.monotonic() + timeout
    found = look()
    while not reached(found, state) and time.monotonic() < deadline:
        time.sleep(INTERVAL)
        found = look()
    return found


def complaint(where, found, state, timeout):
    """Return the sentence for a server that was waited for in vain."""
    if state == "drained":
        return (
            f"{where} still works on {found['sessions']} requests after {timeout} s. It gets no new ones: "
            "run this again, or end them by a restart of the server."
        )
    return (
        f"{where} is not up after {timeout} s: {found['status']}, last check: {found['check'] or 'none'}. "
        "Look at the server itself; it gets requests as soon as a check finds it up."
    )


def main():
    """Run the module."""
    module = AnsibleModule(
        {
            "socket": {"type": "path", "default": "/run/vllm-gateway/admin.sock"},
            "master_socket": {"type": "path", "default": "/run/vllm-gateway/master.sock"},
            "server": {"type": "str", "required": True},
            "host": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["drained", "ready", "present"], "default": "present"},
            "timeout": {"type": "int", "default": 660},
        },
        supports_check_mode=True,
    )
    state, timeout = module.params["state"], module.params["timeout"]
    backend, name = "server_" + module.params["server"], module.params["host"]
    runtime, master = Runtime(module.params["socket"]), Runtime(module.params["master_socket"])

    def look():
        found = read_server(runtime, backend, name)
        found["sessions"] += former_sessions(master, backend, name)
        return found

    try:
        found = look()
        changed = (state == "drained" and not found["drain"]) or (state == "ready" and found["drain"])
        if state != "present" and not module.check_mode:
            if changed:
                set_server(runtime, backend, name, "drain" if state == "drained" else "ready")
            found = wait(look, state, timeout)
    except RuntimeProblem as problem:
        module.fail_json(msg=str(problem))
    shown = {"drained": found["drain"], **{key: found[key] for key in ("up", "sessions", "status", "check")}}
    if state != "present" and not module.check_mode and not reached(found, state):
        where = f"Server {module.params['server']} on {name}, behind the gateway at {module.params['socket']},"
        module.fail_json(msg=complaint(where, found, state, timeout), changed=changed, **shown)
    module.exit_json(changed=changed, **shown)


if __name__ == "__main__":
    main()
