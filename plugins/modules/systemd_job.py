#!/usr/bin/python
"""Ansible module: run a long command as a transient systemd unit, and tell how far it is."""

from __future__ import annotations

DOCUMENTATION = r"""
module: systemd_job
short_description: Run a long command as a transient systemd unit and tell how far it is
description:
  - Starts the command unless it runs already, and returns within seconds. Meant to be repeated with C(until)
    the result is C(finished).
  - The command goes on when the run that started it is interrupted. The next run finds it by its name and waits for it.
  - What the command prints is in the journal; its last line is the progress this module reports.
    Lines that begin with C(<3>) are errors, and what is shown of a failure.
options:
  name:
    description: Name of the unit, without C(.service). Must change with what the command is to achieve.
    type: str
    required: true
  description:
    description: What C(systemctl status) shows.
    type: str
    required: true
  argv:
    description: The command and its arguments.
    type: list
    elements: str
    required: true
  waiter:
    description:
      - Any text that is the same for all looks of one task and another for each task, such as the time at which it
        begins.
      - Tells a failure this task waited for, which is reported, from one of an earlier run, after which the command
        is started again.
    type: str
    required: true
  environment:
    description: Variables for the command, handed over in a file that only root can read.
    type: dict
    default: {}
  inherit:
    description: >-
      Shell patterns of the variables that the command also gets from the session of this module, such as V(PIP_*).
    type: list
    elements: str
    default: []
  credentials:
    description: Secrets for the command, as files in the directory that systemd names in C(CREDENTIALS_DIRECTORY).
    type: dict
    default: {}
attributes:
  check_mode:
    support: full
    description: Reports that the command would run, and starts nothing.
author:
  - vllm-fleet contributors
"""

EXAMPLES = r"""
- name: Install
  systemd_job:
    name: vllm-fleet-install-0.32.0-cpu
    description: Install vLLM
    argv: [/usr/bin/python3, /opt/vllm-fleet/lib/install_runtime.py]
    waiter: "{{ now() }}"
  register: job
  until: job.finished
  retries: 360
  delay: 5
"""

RETURN = r"""
finished:
  description: Whether the command has ended.
  returned: always
  type: bool
msg:
  description: The last line that the command printed; after a failure the last lines.
  returned: always
  type: str
"""

import fnmatch  # noqa: E402
import os  # noqa: E402
import secrets  # noqa: E402
import shutil  # noqa: E402
import time  # noqa: E402
from pathlib import Path  # noqa: E402

from ansible.module_utils.basic import AnsibleModule  # noqa: E402

DIRECTORY = Path("/run/vllm-fleet/jobs")
SHORT_SECONDS = 3  # a command that ends sooner needs no second look
SHOWN = [
    "LoadState",
    "ActiveState",
    "SubState",
    "Result",
    "ExecMainStatus",
    "SyslogIdentifier",
]


def environment_file(variables):
    """Return `variables` in the form systemd's EnvironmentFile= reads."""
    quoted = {name: str(value).replace("\\", "\\\\").replace('"', '\\"') for name, value in variables.items()}
    return "".join(f'{name}="{value}"\n' for name, value in sorted(quoted.items()))


def inherited(environment, patterns):
    """Return the variables of `environment` whose names match one of `patterns`."""
    return {
        name: value
        for name, value in environment.items()
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
    }


def state_of(properties):
    """Return none, running, done or failed, from what systemctl show says of a unit."""
    if properties.get("LoadState") != "loaded":
        return "none"
    if properties["ActiveState"] == "active" and properties["SubState"] == "exited":
        return "done"
    if properties["ActiveState"] == "failed":
        return "failed"
    return "none" if properties["ActiveState"] == "inactive" else "running"


def last_lines(text, count):
    """Return the last `count` lines of `text` that are not empty."""
    return "\n".join([line for line in text.splitlines() if line.strip()][-count:])


def write_private(path, text):
    """Write a file only root can read; it is never readable to anyone else."""
    with os.fdopen(os.open(str(path), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)


class Job:
    """One transient unit."""

    def __init__(self, module):
        self.module = module
        self.unit = module.params["name"] + ".service"
        self.directory = DIRECTORY / module.params["name"]

    def run(self, *argv, check=True):
        """Run a command and return its output."""
        code, out, err = self.module.run_command(list(argv))
        if check and code:
            self.module.fail_json(msg=f"'{' '.join(argv)}' failed: {err.strip() or out.strip()}", finished=True)
        return out

    def show(self):
        """Return what systemd knows of the unit."""
        lines = self.run("systemctl", "show", "--property=" + ",".join(SHOWN), self.unit).splitlines()
        return dict(line.split("=", 1) for line in lines)

    def said(self, identifier, count, *options):
        """Return the last lines that one start of the unit printed."""
        # Without this the journal may lack what was printed last.
        self.run("journalctl", "--sync", check=False)
        journal = ("journalctl", "--quiet", "--output=cat", "--no-pager", "--lines=50", "--identifier=" + identifier)
        return last_lines(self.run(*journal, *options, check=False), count)

    def forget(self):
        """Remove what a finished unit left, its secrets included."""
        self.run("systemctl", "stop", self.unit, check=False)
        self.run("systemctl", "reset-failed", self.unit, check=False)
        shutil.rmtree(str(self.directory), ignore_errors=True)

    def awaited(self):
        """Whether the unit was last looked at by this very task."""
        path = self.directory / "waiter"
        return path.exists() and path.read_text() == self.module.params["waiter"]

    def wait(self):
        """Note that this task waits for the unit."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self.directory.chmod(0o700)
        write_private(self.directory / "waiter", self.module.params["waiter"])

    def start(self):
        """Start the unit."""
        params = self.module.params
        self.wait()
        variables = {"HOME": "/root", **inherited(os.environ, params["inherit"]), **params["environment"]}
        write_private(self.directory / "environment", environment_file(variables))
        # Names this start in the journal. An invocation id would not do: lines that journald reads after the unit's end
        # come without it.
        identifier = f"{params['name']}-{secrets.token_hex(4)}"
        properties = [
            *(f"EnvironmentFile={self.directory}/environment", f"SyslogIdentifier={identifier}"),
            *("RemainAfterExit=yes", "UMask=0022"),
        ]
        for name, value in params["credentials"].items():
            write_private(self.directory / name, str(value))
            properties.append(f"LoadCredential={name}:{self.directory}/{name}")
        self.run(
            *("systemd-run", "--quiet", "--unit=" + self.unit, "--description=" + params["description"]),
            *("--property=" + text for text in properties),
            "--",
            *params["argv"],
        )


def main():
    """Run the module."""
    module = AnsibleModule(
        {
            "name": {"type": "str", "required": True},
            "description": {"type": "str", "required": True},
            "argv": {"type": "list", "elements": "str", "required": True},
            "waiter": {"type": "str", "required": True},
            "environment": {"type": "dict", "default": {}},
            "inherit": {"type": "list", "elements": "str", "default": []},
            "credentials": {"type": "dict", "default": {}, "no_log": True},
        },
        supports_check_mode=True,
    )
    if module.check_mode:
        module.exit_json(changed=True, finished=True, msg=f"Would run: {module.params['description']}")
    job = Job(module)
    properties = job.show()
    state = state_of(properties)
    if state == "none" or (state == "failed" and not job.awaited()):
        job.forget()
        job.start()
        deadline = time.monotonic() + SHORT_SECONDS
        state = "running"
        while state == "running" and time.monotonic() < deadline:
            time.sleep(0.2)
            properties = job.show()
            state = state_of(properties)
    identifier = properties["SyslogIdentifier"]
    if state == "running":
        job.wait()
        module.exit_json(changed=True, finished=False, msg=job.said(identifier, 1) or "started")
    if state == "failed":
        said = job.said(identifier, 30, "--priority=err") or job.said(identifier, 20)
        job.forget()
        ended = f"{properties['Result']}, status {properties['ExecMainStatus']}"
        module.fail_json(msg=f"{said}\n({ended}; the whole story: journalctl --identifier={identifier})", finished=True)
    said = job.said(identifier, 1)
    job.forget()
    module.exit_json(changed=True, finished=True, msg=said)


if __name__ == "__main__":
    main()
