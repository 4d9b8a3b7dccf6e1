#!/usr/bin/python
"""Ansible module: compare a host with the vLLM release it should have, in one look."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vllm_runtime_facts
short_description: Compare a host with the vLLM release it should have
description:
  - Reads platform, packages, service user, interpreter, disk, clock and the installed release. Changes nothing.
options:
  release:
    description: What should be installed.
    type: dict
    required: true
    suboptions:
      path:
        description: Directory of the release.
        type: path
        required: true
      backend:
        description: V(cuda) or V(cpu).
        type: str
        required: true
      pythons:
        description: Versions of Python the lock file is for, such as V(3.11).
        type: list
        elements: str
        required: true
      machines:
        description: Processor architectures the lock file is for.
        type: list
        elements: str
        required: true
      cpu_flags:
        description: Processor features the build cannot do without.
        type: list
        elements: str
        default: []
      bytes:
        description: Disk space an installation takes.
        type: int
        required: true
  current:
    description: Link that names the release in use.
    type: path
    required: true
  cache:
    description: Directory of downloads.
    type: path
    required: true
  user:
    description: User the model servers run as.
    type: str
    required: true
  python:
    description: Interpreter (path) or version to use instead of the platform's.
    type: str
    default: ""
  platforms:
    description: >-
      Packages and paths by platform. Keys are C(ID), C(ID-VERSION_ID) or one of C(ID_LIKE) of os-release; the more
      special ones override.
    type: dict
    required: true
  controller_time:
    description: The controller's clock in seconds since the epoch.
    type: float
    required: true
  timeout:
    description: Seconds the package index may take to answer.
    type: int
    default: 10
attributes:
  check_mode:
    support: full
    description: Changes nothing in either mode.
author:
  - vllm-fleet contributors
"""

EXAMPLES = r"""
- name: Look at the host
  vllm_runtime_facts:
    release:
      path: /opt/vllm-fleet/releases/0.32.0-cpu-00000000
      backend: cpu
      pythons: ["3.11"]
      machines: [x86_64]
      bytes: 2000000000
    current: /opt/vllm-fleet/current
    cache: /var/cache/vllm-fleet
    user: vllm
    platforms: {debian: {packages: [g++], python: /usr/bin/python3}}
    controller_time: "{{ now().timestamp() }}"
"""

RETURN = r"""
findings:
  description: >-
    What keeps the release from being installed (severity error) or may do so (warning), each with a stable code, and
    a message with its remedy.
  returned: always
  type: list
  elements: dict
disk_needs:
  description: What an installation puts where, as owner, path, bytes, mount point and bytes free there.
  returned: always
  type: list
  elements: dict
pending:
  description: What differs from a finished installation; empty when there is nothing to do.
  returned: always
  type: list
  elements: str
installed:
  description: Whether the release itself is there and works.
  returned: always
  type: bool
missing_packages:
  description: Packages of the platform that are not installed.
  returned: always
  type: list
  elements: str
platform:
  description: The data of O(platforms) that apply to the host.
  returned: always
  type: dict
"""

import os  # noqa: E402
import platform  # noqa: E402
import pwd  # noqa: E402
import time  # noqa: E402
from pathlib import Path  # noqa: E402

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible.module_utils.findings import disk_need, error, room_findings  # noqa: E402
from ansible.module_utils.platforms import parse_os_release, platform_data  # noqa: E402
from ansible.module_utils.repositories import PIP_FILES, compiler_findings, index_findings, pip_settings  # noqa: E402

COMPLETE = "vllm-fleet-release.json"  # install_runtime.py writes it last
CLOCK_SECONDS = 300
LAST_SYSTEM_UID = 999
MIN_GLIBC = (2, 28)
ROOM = "Make room, or move vllm_runtime_root or vllm_runtime_cache to a larger file system."


def platform_findings(os_release, platforms):
    """Return a finding if nothing in `platforms` applies to the host."""
    if platform_data(os_release, platforms):
        return []
    return [
        error(
            "platform-unsupported",
            f"{os_release.get('PRETTY_NAME', 'this system')} is not supported; supported: "
            f"{', '.join(sorted(platforms))}. Use one of these, or one derived from them.",
        )
    ]


def processor_findings(release, machine, cpuinfo):
    """Return a finding for each thing the build needs that this processor lacks."""
    if machine not in release["machines"]:
        return [
            error(
                "processor",
                f"processor architecture {machine}: the locked vLLM is for {', '.join(release['machines'])} only. Use "
                "another host.",
            )
        ]
    flags = next((set(line.split()) for line in cpuinfo.splitlines() if line.startswith("flags")), set())
    lacking = [flag for flag in release["cpu_flags"] if flag not in flags]
    if not lacking:
        return []
    return [
        error(
            "processor",
            f"the processor lacks {', '.join(lacking)}, without which vLLM's {release['backend']} build dies with an "
            "illegal instruction. Use a newer processor, or show the host's own processor to the virtual machine.",
        )
    ]


def clock_findings(controller, host):
    """Return a finding if clocks (seconds since the epoch) differ so far that certificates are refused."""
    ahead = host - controller
    if abs(ahead) < CLOCK_SECONDS:
        return []
    return [
        error(
            "clock-differs",
            f"the clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} the controller's. "
            "Set it first: timedatectl set-ntp true, or timedatectl set-time.",
        )
    ]


def login_findings(uid, user):
    """Return a finding if the run has not root's rights."""
    if uid == 0:
        return []
    return [error("not-root", f"the login is {user}'s, not root's. Set ansible_become: true, or ansible_user: root.")]


def glibc_findings(version):
    """Return a finding if glibc (such as 2.36) is older than vLLM's packages need."""
    if tuple(int(part) for part in version.split(".")[:2]) >= MIN_GLIBC:
        return []
    return [
        error(
            "glibc-too-old",
            f"glibc {version} is older than 2.28, which vLLM's packages need. Use a newer release of the system.",
        )
    ]


def user_findings(user):
    """Return (a finding if `user` is a person's account, whether `user` exists)."""
    try:
        uid = pwd.getpwnam(user).pw_uid
    except KeyError:
        return [], False
    if 0 < uid <= LAST_SYSTEM_UID:
        return [], True
    return [
        error(
            "service-user",
            f"user {user} (uid {uid}) is not a system user: systemd removes the shared memory of such a user's servers "
            "when it logs out. Set vllm_runtime_user to another name.",
        )
    ], True


def python_findings(release, python, run):
    """Return a finding if `python` (a path or a version) is of a version the lock is not for."""
    if python.startswith("/") and not Path(python).exists():
        return []  # one of the packages to be installed
    version = python
    if python.startswith("/"):
        version = run([python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"])
    if version in release["pythons"]:
        return []
    return [
        error(
            "python-unsupported",
            f"the interpreter to use ({python}) is Python {version}; vLLM's {release['backend']} lock is for Python "
            f"{', '.join(release['pythons'])}. "
            "Set vllm_runtime_python to the path of such an interpreter, or to its version to have uv fetch one.",
        )
    ]


def release_pending(release, current, run):
    """Return what is left to do about the release itself."""
    path = Path(release["path"])
    if not (path / COMPLETE).exists():
        return [f"install {path}"]
    if not run([str(path / "bin/python"), "-c", "print('works')"]):
        return [f"install {path} again, its interpreter is gone"]
    if not Path(current).is_symlink() or Path(current).resolve() != path.resolve():
        return [f"point {current} to {path}"]
    return []


def main():
    """Run the module."""
    strings = {"type": "list", "elements": "str"}
    release_options = {
        "path": {"type": "path", "required": True},
        "backend": {"type": "str", "required": True},
        "pythons": {**strings, "required": True},
        "machines": {**strings, "required": True},
        "cpu_flags": {**strings, "default": []},
        "bytes": {"type": "int", "required": True},
    }
    module = AnsibleModule(
        {
            "release": {"type": "dict", "required": True, "options": release_options},
            "current": {"type": "path", "required": True},
            "cache": {"type": "path", "required": True},
            "user": {"type": "str", "required": True},
            "python": {"type": "str", "default": ""},
            "platforms": {"type": "dict", "required": True},
            "controller_time": {"type": "float", "required": True},
            "timeout": {"type": "int", "default": 10},
        },
        supports_check_mode=True,
    )
    params, release = module.params, module.params["release"]

    def run(argv):
        """Return what a command prints, or an empty string if it cannot run."""
        try:
            code, out, _err = module.run_command(argv, handle_exceptions=False)
        except OSError:
            return ""
        return out.strip() if code == 0 else ""

    os_release = parse_os_release(Path("/etc/os-release").read_text())
    data = platform_data(os_release, params["platforms"])
    if not data:
        module.exit_json(
            changed=False,
            findings=platform_findings(os_release, params["platforms"]),
            disk_needs=[],
            pending=[],
            installed=False,
            missing_packages=[],
            platform={},
        )
    data["python"] = params["python"] or data["python"]
    # Both package managers print what they know even when they fail for the rest.
    _code, out, _err = module.run_command([*data["list_packages"], *data["packages"]])
    installed = {line.split(" ")[0] for line in out.splitlines() if line.endswith(" installed")}
    missing = [package for package in data["packages"] if package not in installed]
    user, has_user = user_findings(params["user"])
    todo = release_pending(release, params["current"], run)
    installed_release = not any(step.startswith("install") for step in todo)
    findings = [
        *login_findings(os.geteuid(), os.environ.get("USER") or os.geteuid()),
        *processor_findings(release, platform.machine(), Path("/proc/cpuinfo").read_text()),
        *clock_findings(params["controller_time"], time.time()),
        *user,
        *python_findings(release, data["python"], run),
        *glibc_findings(os.confstr("CS_GNU_LIBC_VERSION").split()[1]),
    ]
    has_lists = any(Path("/").glob(data["lists"].lstrip("/"))) if data["lists"] else True
    needs = []
    if not installed_release:
        needs = [disk_need("vllm_runtime", path, release["bytes"]) for path in (release["path"], params["cache"])]
        findings += room_findings(needs, ROOM)
        findings += index_findings(*pip_settings(os.environ, PIP_FILES), params["timeout"])
    if has_lists:
        findings += compiler_findings("g++", missing, run)
    pending = [f"install the packages {', '.join(missing)}"] if missing else []
    pending += [] if has_user else [f"create the user {params['user']}"]
    module.exit_json(
        changed=False,
        findings=findings,
        disk_needs=needs,
        pending=pending + todo,
        installed=installed_release,
        missing_packages=missing,
        platform=data,
    )


if __name__ == "__main__":
    main()
