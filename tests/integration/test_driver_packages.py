"""The role nvidia_driver on a real host, real apt and real systemd, against a small repository of stub packages.

Stubs: the packages (tests/apt_repository.py), the facts of a machine with GPUs (fake_gpu_host), two kernels
(directories) and update-initramfs. The tests are one story on one host, in the order of the file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import apt_repository
from tests.integration.conftest import ROOT, Done, LabHost, make_host, run

pytestmark = pytest.mark.integration

FIRST, SECOND = apt_repository.KERNELS
PLAYBOOK = """
- hosts: gpu_hosts
  gather_facts: false
  tasks:
    - ansible.builtin.include_role:
        name: nvidia_driver
    - ansible.builtin.debug:
        msg: reboot needed={{ nvidia_driver_reboot_needed }}
"""
GPU = {
    "address": "0000:18:00.0",
    "id": "10de:2330",
    "name": "H100 SXM5 80GB",
    "compute_capability": "9.0",
    "driver": None,
}
MACHINE = {
    "kernel": FIRST,
    "pci_gpus": [GPU],
    "nvswitches": [{"address": "0000:05:00.0", "id": "10de:22a3", "driver": None}],
}
UPDATE_INITRAMFS = """#!/bin/sh
# Stub of update-initramfs: an image is the list of files that a real one would copy.
for kernel in /lib/modules/*/kernel; do
  ls -d /etc/modprobe.d/* | sed s,^/,, > "/boot/initrd.img-$(basename "$(dirname "$kernel")")"
done
echo made >> /var/log/stub-initramfs
"""
FILES = """
import os, pathlib, stat, sys
for path, text in eval(sys.argv[1]).items():
    file = pathlib.Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    file.chmod(0o755 if "bin/" in path else 0o644)
"""


@dataclass(frozen=True)
class Fleet:
    """The host, the repository it is given, and the playbook."""

    host: LabHost
    repository: apt_repository.Repository
    playbook: Path

    def deploy(self, *arguments: str, **variables: object) -> Done:
        """Run the role with variables, such as branch="595"."""
        given = {f"nvidia_driver_{name}": value for name, value in variables.items()}
        given.setdefault("nvidia_driver_repository_url", self.repository.url)
        library = f"{ROOT / 'tests/integration/fake_gpu_host'}:{ROOT / 'plugins/modules'}"
        command = ["env", f"ANSIBLE_LIBRARY={library}", "ansible-playbook", self.playbook, "-e", json.dumps(given)]
        done = run(*command, *arguments)
        return Done(done.status, " ".join(done.output.split()))  # Ansible wraps long messages

    def succeed(self, *arguments: str, **variables: object) -> str:
        """Run the role, which must succeed; return what was printed."""
        done = self.deploy(*arguments, **variables)
        assert done.status == 0, done.output[-4000:]
        return done.output

    def versions(self) -> dict[str, str]:
        """Return the driver versions of the installed packages."""
        names = ["nvidia-open", "nvidia-kernel-open-dkms", "libcuda1", "nvidia-persistenced", "nvidia-fabricmanager"]
        listed = self.host.do(
            "dpkg-query", "--show", "--showformat=${Package} ${Version} ${db:Status-Status}\n", *names
        )
        rows = [line.split() for line in listed.output.splitlines()]
        return {row[0]: row[1] for row in rows if row[-1] == "installed"}

    def modules(self) -> list[str]:
        """Return the version of each kernel's module file."""
        files = [f"/lib/modules/{kernel}/updates/dkms/nvidia.ko" for kernel in (FIRST, SECOND)]
        return self.host.do("modinfo", "--field", "version", *files).output.split()

    def write(self, files: dict[str, str]) -> None:
        """Write files on the host."""
        self.host.read("python3", "-c", FILES, repr(files))


@pytest.fixture(scope="module")
def fleet(lab_host: LabHost, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    make_host()
    root = tmp_path_factory.mktemp("driver")
    (root / "driver.yml").write_text(PLAYBOOK)
    apt_repository.build(root / "repository")
    gateway = lab_host.read("ip", "-4", "route", "show", "default").split()[2]
    with apt_repository.serve(root / "repository", gateway) as repository:
        fleet = Fleet(lab_host, repository, root / "driver.yml")
        fleet.write(
            {
                "/etc/fake-gpu-host.json": json.dumps(MACHINE),
                **{f"/lib/modules/{kernel}/kernel/stub": "" for kernel in (FIRST, SECOND)},
                **{f"/boot/initrd.img-{kernel}": "nouveau" for kernel in (FIRST, SECOND)},
                "/usr/sbin/update-initramfs": UPDATE_INITRAMFS,
                # Not the downloads that all labs share: stubs must not get there, nor be taken from there.
                "/etc/apt/apt.conf.d/99stub": 'Dir::Cache::archives "/var/cache/stub-archives";\n',
                "/var/cache/stub-archives/partial/stub": "",
                "/usr/bin/lsinitramfs": '#!/bin/sh\ncat "$1"\n',
            }
        )
        yield fleet
    make_host()  # stubs of packages and programs would be left there


def all_at(version: str) -> dict[str, str]:
    names = ("nvidia-open", "nvidia-kernel-open-dkms", "libcuda1", "nvidia-persistenced", "nvidia-fabricmanager")
    return dict.fromkeys(names, f"{version}-1")


def test_a_host_without_a_gpu_is_refused_and_left_alone(fleet: Fleet) -> None:
    fleet.write({"/etc/fake-gpu-host.json": json.dumps({**MACHINE, "pci_gpus": []})})
    done = fleet.deploy()
    fleet.write({"/etc/fake-gpu-host.json": json.dumps(MACHINE)})
    assert done.status == 2
    assert "lab-1: no NVIDIA GPU is on the PCI bus" in done.output
    assert "changed=0" in done.output


def test_check_mode_on_a_fresh_host_says_what_will_be_done_and_does_nothing(fleet: Fleet) -> None:
    output = fleet.succeed("--check", "--diff")
    assert "nvidia-open=580.159.04-1" in output, "the exact version is known before the repository is set up"
    assert f"linux-headers-{SECOND}" in output
    assert "+blacklist nova_core" in output
    assert fleet.versions() == {}
    assert fleet.host.do("test", "-e", "/etc/apt/sources.list.d/nvidia-driver.sources").status == 1
    assert fleet.host.do("test", "-e", "/etc/modprobe.d/nvidia-driver.conf").status == 1


def test_a_version_that_one_package_lacks_is_refused_before_anything_changes(fleet: Fleet) -> None:
    done = fleet.deploy(version="580.95.05")
    assert done.status == 2
    assert "has no nvidia-fabricmanager 580.95.05; nearest: 580.159.04, 580.126.09" in done.output
    assert "changed=0" in done.output


def test_a_repository_that_does_not_answer_is_named_before_anything_changes(fleet: Fleet) -> None:
    done = fleet.deploy(repository_url="http://127.0.0.1:9/nowhere")
    assert done.status == 2
    assert "http://127.0.0.1:9/nowhere/debian12/x86_64/Packages.gz cannot be fetched" in done.output
    assert "changed=0" in done.output


def test_a_repository_that_fails_half_way_is_named_and_the_next_run_completes(fleet: Fleet) -> None:
    fleet.host.read("touch", "/run/fake-nouveau")
    fleet.repository.refuse = "nvidia-fabricmanager"
    done = fleet.deploy()
    fleet.repository.refuse = ""
    assert done.status == 2
    assert "503" in done.output, done.output[-3000:]
    assert "nvidia-fabricmanager_580.159.04-1_all.deb" in done.output

    output = fleet.succeed()
    assert fleet.versions() == all_at("580.159.04")
    assert fleet.modules() == ["580.159.04", "580.159.04"]
    assert "nouveau holds the GPUs" in output
    assert "reboot needed=True" in output


def test_an_installed_driver_is_set_up_for_the_next_boot(fleet: Fleet) -> None:
    for kernel in (FIRST, SECOND):
        assert "etc/modprobe.d/nvidia-driver.conf" in fleet.host.read("cat", f"/boot/initrd.img-{kernel}")
    assert "nvidia-uvm" in fleet.host.read("cat", "/etc/modules-load.d/nvidia-driver.conf").split()
    enabled = fleet.host.read("systemctl", "is-enabled", "nvidia-persistenced", "nvidia-fabricmanager")
    assert enabled.split() == ["enabled", "enabled"]
    assert "nvidia" in fleet.host.read("apt-config", "dump", "Unattended-Upgrade::Package-Blacklist")
    held = fleet.host.read("apt-mark", "showhold").split()
    assert set(all_at("")) <= set(held)


def test_with_leave_to_reboot_the_host_comes_back_with_the_driver_at_work(fleet: Fleet) -> None:
    before = fleet.host.read("cat", "/proc/sys/kernel/random/boot_id")
    output = fleet.succeed(reboot_allowed=True)
    assert "reboot needed=False" in output
    assert fleet.host.read("cat", "/proc/sys/kernel/random/boot_id") != before
    assert fleet.host.active(["nvidia-persistenced", "nvidia-fabricmanager"]) != []
    pid = fleet.host.read("systemctl", "show", "--property=MainPID", "--value", "nvidia-persistenced")
    assert fleet.host.read("ps", "-o", "user:32=", "-p", pid) == "nvidia-persistenced"


def test_a_healthy_host_is_not_touched(fleet: Fleet) -> None:
    fleet.repository.asked.clear()
    output = fleet.succeed(reboot_allowed=True)
    assert "changed=0" in output, output
    assert fleet.repository.asked == [], "nothing is fetched for a host that needs nothing"


def test_an_upgrade_by_others_is_held_off(fleet: Fleet) -> None:
    upgrade = fleet.host.read("apt-get", "--simulate", "full-upgrade")
    assert "Inst nvidia" not in upgrade
    assert "Inst libcuda1" not in upgrade


def test_an_exact_version_moves_every_package_down_to_it(fleet: Fleet) -> None:
    output = fleet.succeed(version="580.126.09")
    assert fleet.versions() == all_at("580.126.09")
    assert fleet.modules() == ["580.126.09", "580.126.09"]
    assert "the loaded module is 580.159.04, the installed driver 580.126.09" in output
    assert "reboot needed=True" in output


def test_an_upgrade_to_another_branch_is_one_step_and_a_downgrade_as_well(fleet: Fleet) -> None:
    fleet.succeed(branch="595")
    assert fleet.versions() == all_at("595.58.03")
    assert fleet.modules() == ["595.58.03", "595.58.03"]
    fleet.succeed(branch="580")
    assert fleet.versions() == all_at("580.159.04")
    assert set(all_at("")) <= set(fleet.host.read("apt-mark", "showhold").split())
    assert "reboot needed=False" in fleet.succeed(), "the module that is loaded is the installed one again"


def test_a_kernel_that_came_later_gets_its_module(fleet: Fleet) -> None:
    fleet.host.read("rm", "-r", f"/lib/modules/{SECOND}/updates")
    fleet.succeed()
    assert fleet.modules() == ["580.159.04", "580.159.04"]


def test_a_build_that_reports_success_without_a_module_is_found_and_its_log_quoted(fleet: Fleet) -> None:
    fleet.host.read("rm", "-r", f"/lib/modules/{SECOND}/updates")
    fleet.write({"/etc/stub-dkms-makes-nothing": ""})
    done = fleet.deploy()
    fleet.host.read("rm", "/etc/stub-dkms-makes-nothing")
    assert done.status == 2
    assert f"there is no open nvidia module 580.159.04 for kernel {SECOND}" in done.output
    assert f"no C++ compiler for {SECOND}" in done.output


def test_an_interrupted_installation_is_finished(fleet: Fleet) -> None:
    fleet.host.read(
        "sed", "-i", "/^Package: libcuda1$/,/^$/ s/^Status: .*/Status: hold ok half-configured/", "/var/lib/dpkg/status"
    )
    assert "libcuda1" not in fleet.versions()
    fleet.succeed()
    assert fleet.versions() == all_at("580.159.04")


def test_a_removal_takes_away_what_was_installed_and_nothing_else(fleet: Fleet) -> None:
    output = fleet.succeed(state="absent")
    assert fleet.versions() == {}
    assert "580.159.04 of a removed driver is loaded" in output
    written = [
        "/etc/modprobe.d",
        "/etc/modules-load.d",
        "/etc/systemd/system",
        "/etc/apt/sources.list.d",
        "/etc/apt/apt.conf.d",
    ]
    assert fleet.host.read("find", *written, "-name", "*nvidia*", "-type", "f") == ""
    assert fleet.host.do("dpkg-query", "--show", f"linux-headers-{FIRST}").status == 0, "headers may serve others"
    assert "changed=0" in fleet.succeed(state="absent")
