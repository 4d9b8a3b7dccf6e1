#!/usr/bin/python
"""Ansible module: compare the NVIDIA driver of a host with what is wanted, and say what is left to do."""

from __future__ import annotations

DOCUMENTATION = r"""
module: nvidia_driver_facts
short_description: Compare the NVIDIA driver of a host with what is wanted
description:
  - Reads packages, kernels, files and services in one round trip and changes nothing. What is left to do is returned as
    data; the role nvidia_driver works it off.
  - The repository's index is fetched only where packages are to change, so that a version that is not there is known
    before anything is touched, also in check mode and before the repository is set up.
options:
  gpu_host:
    description: The fact of gpu_host_facts. What it does not know is not held against the host.
    type: dict
    required: true
  platforms:
    description: Data by platform; see vars/main.yml of the role nvidia_driver.
    type: dict
    required: true
  wanted:
    description: State, branch, version, secure_boot, manage_repo, repository_url, keyring; see the role's variables.
    type: dict
    required: true
  min_branch:
    description: Oldest branch that is of use.
    type: str
    required: true
  min_capability:
    description: Oldest compute capability that is of use.
    type: str
    default: "7.5"
  files:
    description: Files that belong to the driver (path, content).
    type: list
    elements: dict
    default: []
  nvlink5_files:
    description: More of them for machines with NVLink 5.
    type: list
    elements: dict
    default: []
  record:
    description: File in which the role notes what it found before it installed anything.
    type: path
    required: true
  refreshed:
    description: Whether the package lists on the host are fresh.
    type: bool
    default: false
  timeout:
    description: Seconds that a command or a request may take.
    type: int
    default: 60
attributes:
  check_mode:
    support: full
    description: Changes nothing in either mode.
author:
  - vllm-fleet contributors
"""

EXAMPLES = r"""
- name: Compare the host with the driver it should have
  nvidia_driver_facts:
    gpu_host: "{{ ansible_facts.gpu_host }}"
    platforms: {debian-12: {path: debian12}}
    wanted: {state: present, branch: "580", version: ""}
    min_branch: "580"
    record: /var/lib/vllm-fleet/nvidia-driver.json
"""

RETURN = r"""
findings:
  description: What keeps the driver from being installed (code, severity, message).
  returned: always
  type: list
  elements: dict
pending:
  description: What differs from a finished installation; empty when there is nothing to do.
  returned: always
  type: list
  elements: str
steps:
  description: The same as data.
  returned: always
  type: dict
version:
  description: Driver version that the host should have; empty while it is unknown.
  returned: always
  type: str
installed_version:
  description: Driver version that is installed; empty without one.
  returned: always
  type: str
reboot_reasons:
  description: Why the installed driver works only after a reboot.
  returned: always
  type: list
  elements: str
driver_packages:
  description: Installed packages of the driver and their versions.
  returned: always
  type: dict
kernel_packages:
  description: Installed packages of kernels with their versions.
  returned: always
  type: list
  elements: str
kernels:
  description: Installed kernels with headers, module, version and licence of the module.
  returned: always
  type: list
  elements: dict
build_log:
  description: The end of the newest log of a module build, where a kernel lacks its module.
  returned: always
  type: str
platform:
  description: The data of O(platforms) that apply to the host, filled in.
  returned: always
  type: dict
"""

import gzip  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import re  # noqa: E402
import subprocess  # noqa: E402
import urllib.error  # noqa: E402
import urllib.request  # noqa: E402
from pathlib import Path  # noqa: E402

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible.module_utils.nvidia_driver import findings, kernels, packages, platforms, steps  # noqa: E402

NVLINK5 = re.compile(r"\bG?B[123]00\b")
SERVICE, FABRIC_SERVICE = "nvidia-persistenced.service", "nvidia-fabricmanager.service"


def make_runner(timeout):
    """Return a function that runs a command and returns what it printed; nothing if it cannot run or hangs."""

    def run(argv):
        try:
            done = subprocess.run(
                argv,
                env=dict(os.environ, LC_ALL="C"),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                timeout=timeout,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return ""
        return done.stdout.decode(errors="replace").strip()

    return run


def fetch(url, timeout):
    """Return (content, None) of a URL, or (None, why not)."""
    try:
        with urllib.request.urlopen(url, timeout=timeout) as answer:  # noqa: S310 - file: is a local mirror
            return answer.read(), None
    except (urllib.error.URLError, OSError, ValueError) as error:
        return None, str(getattr(error, "reason", error))


def read_index(data, names, run, timeout):
    """Return ({name: [(version, origin)]} or None while it cannot be known, findings)."""
    if data["index"]:
        content, why = fetch(data["url"] + data["index"], timeout)
        if content is None:
            message = (
                f"{data['url']}{data['index']} cannot be fetched: {why}. Check nvidia_driver_repository_url, and the "
                "proxy in nvidia_driver_environment; or set nvidia_driver_manage_repo to false and bring the packages."
            )
            return None, [findings.finding("driver-repository-unreachable", message)]
        if data["index_kind"] == "deb":
            text = gzip.decompress(content).decode(errors="replace")
            return packages.parse_deb_index(text, data["url"]), []
    return packages.parse_versions(run([*data["versions"], *names])) or None, []


def has_nvlink5(host):
    """Whether the GPUs are linked by NVLink 5, whose switches are no PCI devices of NVIDIA's."""
    return any(NVLINK5.search(gpu.get("name") or "") for gpu in host.get("pci_gpus") or [])


def held_names(text):
    """Return the names in what apt-mark showhold or dnf versionlock list prints."""
    return {re.sub(r"-\d+:[^-]+-[^-]+$", "", line.strip()) for line in text.splitlines() if line.strip()}


class Look:
    """One look at a host."""

    def __init__(self, params, data, root="/"):
        self.params, self.data, self.root = params, data, root
        self.host, self.wanted = params["gpu_host"], params["wanted"]
        self.run = make_runner(params["timeout"])
        listed = self.run(data["list"])
        self.installed = packages.parse_list(listed)
        self.kernel_packages = packages.kernel_packages(listed, data["kernels"])
        self.driver = packages.of_driver(self.installed, data["names"], data["not_names"])
        self.installed_version = packages.upstream(self.driver.get(data["packages"][0], ""))
        self.kernels = kernels.look(root, self.run)
        self.nvlink5 = has_nvlink5(self.host)
        self.fabric = bool(self.host.get("nvswitches")) or self.nvlink5
        self.files = params["files"] + data["files"] + (params["nvlink5_files"] if self.nvlink5 else [])
        self.findings = []
        self.version = ""
        self.steps = {key: [] for key in STEPS}

    def show(self, unit):
        """Return what systemd knows of a unit."""
        text = self.run(["systemctl", "show", "--property=LoadState,UnitFileState,ActiveState", unit])
        return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)

    def lacks_module(self, kernel):
        """Whether a kernel has no open module of the installed driver. What modinfo does not tell counts as right."""
        other = kernel["version"] not in (None, self.installed_version)
        closed = kernel["licence"] and not re.match(self.data["licence"], kernel["licence"])
        return bool(not kernel["module"] or other or closed)

    def choose(self):
        """Set the version to have and the packages to get there."""
        data, wanted, todo = self.data, self.wanted, self.steps
        names = data["packages"] + (data["fabric"] if self.fabric else [])
        loose = data["nvlink5"] if self.nvlink5 else []
        todo["prerequisites"] = [name for name in data["prerequisites"] if name not in self.installed]
        releases = [kernel["release"] for kernel in self.kernels]
        without = {kernel["release"] for kernel in self.kernels if not kernel["headers"]}
        headers = packages.headers_packages(data, releases, self.installed)
        there = packages.headers_packages(data, [name for name in releases if name not in without], {})
        todo["headers"] = [name for name in headers if name not in self.installed and name not in there]
        todo["pinning"] = [name for name in data["pinning"] if name not in self.installed]
        self.version = packages.choose_version(wanted, self.installed_version, {}, names[0])
        todo["driver"] = steps.transaction(data, names, self.driver, self.version, {}, loose)
        if not todo["driver"] and not todo["pinning"] and not steps.stray(self.driver, self.version):
            return
        index, found = read_index(
            data, names + loose + todo["pinning"] + list(self.driver), self.run, self.params["timeout"]
        )
        self.findings += found
        if index is None:
            if self.params["refreshed"] and not found:
                self.findings += findings.of_index(data, wanted, "", {}, {})
            return
        self.version = packages.choose_version(wanted, self.installed_version, index, names[0])
        lacking = packages.without_version(names, self.version, index)
        self.findings += findings.of_index(data, wanted, self.version, index, lacking)
        todo["driver"] = steps.transaction(data, names, self.driver, self.version, index, loose)
        self.findings += findings.of_origins(
            packages.origins(self.driver, packages.parse_versions(self.run([*data["versions"], *self.driver])))
        )

    def look_present(self):
        """Fill in the steps that lead to an installed driver."""
        data, todo = self.data, self.steps
        nvidia = self.host.get("nvidia") or {}
        module = nvidia.get("module") or {}
        if module.get("loaded") and not self.driver:
            self.findings.append(findings.of_unpackaged(self.wanted, module, nvidia.get("userspace_version")))
            return
        todo["repair"] = [name for name, (_, state) in sorted(self.installed.items()) if state[1:2] != "i"]
        todo["repository_files"] = steps.differing(self.root, data["repository_files"])
        key = data["keyring"]["file"]
        todo["keyring"] = bool(data["repository_files"] and key and not Path(key).exists())
        todo["prepare"] = steps.unprepared(self.root, data["prepare"])
        self.choose()
        if todo["headers"]:
            known = packages.parse_versions(self.run([*data["versions"], *todo["headers"]]))
            lists_known = self.params["refreshed"] or known
            lacking = [name for name in todo["headers"] if name not in known] if lists_known else []
            self.findings += findings.of_headers(lacking, self.params["refreshed"])
        todo["files"] = steps.differing(self.root, self.files)
        if self.installed_version and not todo["driver"]:
            todo["build"] = [kernel["release"] for kernel in self.kernels if self.lacks_module(kernel)]
        held = held_names(self.run(data["held"]))
        todo["hold"] = [name for name in sorted(self.driver) if name not in held]
        self.look_at_boot()

    def look_at_boot(self):
        """Fill in the steps about what happens at boot."""
        nvidia, todo = self.host.get("nvidia") or {}, self.steps
        module = nvidia.get("module") or {}
        in_use = bool(module.get("loaded")) and module.get("version") == self.installed_version
        if not in_use:  # a module that holds the GPUs since boot has proved the initramfs
            blacklist = self.params["files"][0]["path"] if self.params["files"] else ""
            releases = [kernel["release"] for kernel in self.kernels]
            todo["initramfs"] = kernels.outdated_initramfs(
                self.root, self.data["initramfs"], releases, blacklist, self.run
            )
        ready = in_use and "nvidiactl" in (nvidia.get("devices") or [])
        units = [SERVICE] + ([FABRIC_SERVICE] if self.fabric else [])
        todo["services"] = steps.services(units, ready, self.show)
        running = [kernel for kernel in self.kernels if kernel["release"] == self.host.get("kernel")]
        others = nvidia.get("nouveau_loaded") or nvidia.get("nova_loaded")
        todo["load"] = bool(
            self.installed_version and not module.get("loaded") and not others and running and running[0]["module"]
        )

    def look_absent(self):
        """Fill in the steps that lead to a host without what the role installed."""
        record, todo = Path(self.params["record"]), self.steps
        if not record.exists():
            if self.driver:
                self.findings.append(findings.of_foreign(self.driver, record))
            return
        before = json.loads(record.read_text())["found"]
        releases = [kernel["release"] for kernel in self.kernels]
        todo["initramfs"] = kernels.outdated_initramfs(self.root, self.data["initramfs"], releases, "/none", self.run)
        todo["remove"] = [name for name in sorted(self.driver) if name not in before]
        ours = self.files + self.data["repository_files"] + self.params["nvlink5_files"]
        todo["remove_files"] = [file["path"] for file in ours if Path(file["path"]).exists()] + [str(record)]


STEPS = [
    *(
        "repair",
        "repository_files",
        "keyring",
        "prepare",
        "prerequisites",
        "headers",
        "pinning",
        "driver",
        "files",
        "build",
    ),
    *("initramfs", "hold", "services", "load", "remove", "remove_files"),
]


def main():
    """Run the module."""
    dicts = {"type": "list", "elements": "dict", "default": []}
    module = AnsibleModule(
        {
            "gpu_host": {"type": "dict", "required": True},
            "platforms": {"type": "dict", "required": True},
            "wanted": {"type": "dict", "required": True},
            "min_branch": {"type": "str", "required": True},
            "min_capability": {"type": "str", "default": "7.5"},
            "files": dicts,
            "nvlink5_files": dicts,
            "record": {"type": "path", "required": True},
            "refreshed": {"type": "bool", "default": False},
            "timeout": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    params = module.params
    host, wanted = params["gpu_host"], params["wanted"]
    data = platforms.platform_data(host.get("os") or {}, params["platforms"])
    presigned = wanted["secure_boot"] == "presigned"
    if not data or host["architecture"] not in data["architectures"] or (presigned and "presigned" not in data):
        module.exit_json(
            findings=[findings.of_platform(host, presigned, platforms.supported(params["platforms"]))],
            **{key: [] for key in ("pending", "reboot_reasons", "kernels", "kernel_packages")},
            **dict.fromkeys(("version", "installed_version", "build_log"), ""),
            **{key: {} for key in ("driver_packages", "platform")},
            steps={key: [] for key in STEPS},
        )
    look = Look(params, platforms.resolve(data, host["architecture"], wanted))
    if wanted["state"] == "absent":
        look.look_absent()
    else:
        look.findings += findings.of_wishes(wanted, params["min_branch"])
        look.findings += findings.of_gpus(host, params["min_capability"]) + findings.of_secure_boot(host, data, wanted)
        if not look.findings:
            look.look_present()
    if wanted["state"] == "absent":
        reasons = [] if look.driver else steps.reboot_reasons(host, look.kernels, "")
    else:
        reasons = steps.reboot_reasons(host, look.kernels, look.installed_version) if look.installed_version else []
    module.exit_json(
        changed=False,
        findings=look.findings,
        pending=steps.pending(look.steps),
        steps=look.steps,
        version=look.version,
        installed_version=look.installed_version,
        reboot_reasons=reasons,
        driver_packages=look.driver,
        kernel_packages=look.kernel_packages,
        kernels=look.kernels,
        build_log=kernels.build_log("/") if look.steps["build"] else "",
        platform=look.data,
    )


if __name__ == "__main__":
    main()
