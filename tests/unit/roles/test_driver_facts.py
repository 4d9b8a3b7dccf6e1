"""What the role nvidia_driver concludes of a host: versions, transactions, reboots, findings."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ansible.module_utils
import pytest
import yaml

from tests.load import ROOT, load

ansible.module_utils.__path__.append(str(ROOT / "plugins/module_utils"))
from ansible.module_utils.nvidia_driver import findings, kernels, packages, platforms, steps  # noqa: E402

facts = load("plugins/modules/nvidia_driver_facts.py")
PLATFORMS = yaml.safe_load((ROOT / "roles/nvidia_driver/vars/main.yml").read_text())["__nvidia_driver_platforms"]
WANTED = {
    "branch": "580",
    "version": "",
    "repository_url": "http://r",
    "keyring": "",
    "manage_repo": True,
    "secure_boot": "refuse",
}
DEBIAN = platforms.platform_data({"id": "debian", "id_like": [], "version_id": "12"}, PLATFORMS)
DATA = platforms.resolve(DEBIAN, "x86_64", WANTED)
INDEX = packages.parse_versions(
    "\n".join(
        f"{name} | {version}-1 | http://r"
        for name in ("nvidia-open", "nvidia-fabricmanager", "libcuda1")
        for version in ("580.95.05", "580.159.04", "595.58.03")
        if (name, version) != ("nvidia-fabricmanager", "580.95.05")
    )
)
BOTH = ["nvidia-open", "nvidia-fabricmanager"]
HEALTHY = {"kernel": "6.1", "pci_gpus": [{"driver": "nvidia"}]}
KERNELS = [{"release": "6.1", "module": "/lib/modules/6.1/updates/dkms/nvidia.ko"}]


def loaded(version: str | None, **more: Any) -> dict[str, Any]:
    return {**HEALTHY, "nvidia": {"module": {"loaded": version is not None, "version": version, "open": True}, **more}}


@pytest.mark.parametrize(
    ("version", "nvidias"),
    [
        ("580.159.04-1ubuntu1", "580.159.04"),
        ("3:580.159.04-1.el9", "580.159.04"),
        ("535.309.01-0+deb12u1", "535.309.01"),
    ],
)
def test_nvidias_own_version_is_read_from_a_packages(version: str, nvidias: str) -> None:
    assert packages.upstream(version) == nvidias


def test_versions_are_compared_as_numbers() -> None:
    assert packages.choose_version(WANTED, "", INDEX, "nvidia-open") == "580.159.04"
    assert [finding["code"] for finding in findings.of_wishes({"branch": "99", "version": ""}, "580")] == [
        "driver-branch-too-old"
    ]
    assert findings.of_wishes({"branch": "1000", "version": ""}, "580") == []


def test_an_installed_version_of_the_branch_stays_until_a_pin_moves_it() -> None:
    assert packages.choose_version(WANTED, "580.95.05", INDEX, "nvidia-open") == "580.95.05"
    assert (
        packages.choose_version({**WANTED, "version": "580.159.04"}, "580.95.05", INDEX, "nvidia-open") == "580.159.04"
    )
    assert packages.choose_version({**WANTED, "branch": "595"}, "580.95.05", INDEX, "nvidia-open") == "595.58.03"


def test_a_branch_below_vllms_floor_is_refused_with_both_numbers() -> None:
    (finding,) = findings.of_wishes({"branch": "535", "version": ""}, "580")
    assert "535 < 580" in finding["message"]


@pytest.mark.parametrize(
    ("branch", "version", "code"),
    [("latest", "", "driver-branch-unknown"), ("580", "595.58.03", "driver-version-not-of-branch")],
)
def test_wishes_that_contradict_themselves_are_refused(branch: str, version: str, code: str) -> None:
    assert [finding["code"] for finding in findings.of_wishes({"branch": branch, "version": version}, "580")] == [code]


def test_every_package_must_have_the_version_and_the_nearest_are_named() -> None:
    lacking = packages.without_version(BOTH, "580.95.05", INDEX)
    assert lacking == {"nvidia-fabricmanager": ["580.159.04"]}
    (finding,) = findings.of_index(DATA, WANTED, "580.95.05", INDEX, lacking)
    assert "no nvidia-fabricmanager 580.95.05; nearest: 580.159.04" in finding["message"]
    assert finding["code"] == "driver-version-unavailable"


def test_a_branch_that_is_not_in_the_repository_is_refused_with_those_that_are() -> None:
    (finding,) = findings.of_index(DATA, {**WANTED, "branch": "570"}, "", INDEX, {})
    assert finding["code"] == "driver-version-unavailable"
    assert "branches there: 580, 595" in finding["message"]


def test_a_system_without_packages_is_refused_with_those_that_have_some() -> None:
    host = {"os": {"name": "Alpine Linux 3.22"}, "architecture": "x86_64"}
    finding = findings.of_platform(host, False, platforms.supported(PLATFORMS))
    assert finding["code"] == "driver-platform-unsupported"
    assert "Alpine Linux 3.22 on x86_64" in finding["message"]
    assert "debian-12" in finding["message"]


def test_a_driver_that_somebody_else_installed_is_not_removed() -> None:
    finding = findings.of_foreign({"nvidia-open": "580.159.04-1"}, "/var/lib/x.json")
    assert finding["code"] == "driver-not-installed-here"
    assert "nvidia-open" in finding["message"]


@pytest.mark.parametrize(
    ("module", "userspace", "severity"),
    [
        ({"version": "580.159.04", "open": True}, "580.159.04", "warning"),
        ({"version": "580.159.04", "open": True}, None, "error"),
        ({"version": "580.159.04", "open": False}, "580.159.04", "error"),
        ({"version": "535.309.01", "open": True}, "535.309.01", "error"),
        ({"version": None, "open": None}, None, "error"),
    ],
)
def test_a_driver_of_no_package_stays_if_it_is_the_wanted_one_and_is_never_installed_over(
    module: dict[str, Any], userspace: str | None, severity: str
) -> None:
    finding = findings.of_unpackaged(WANTED, module, userspace)
    assert (finding["code"], finding["severity"]) == ("driver-not-from-packages", severity)
    assert "nvidia_driver_manage" in finding["message"]


@pytest.mark.parametrize(("refreshed", "severity"), [(True, "error"), (False, "warning")])
def test_missing_headers_are_an_error_once_the_lists_are_fresh(refreshed: bool, severity: str) -> None:
    (finding,) = findings.of_headers(["linux-headers-6.1.0-56-amd64"], refreshed)
    assert (finding["code"], finding["severity"]) == ("kernel-headers-unavailable", severity)


def test_a_fresh_host_gets_all_packages_in_their_exact_version() -> None:
    assert steps.transaction(DATA, BOTH, {}, "580.159.04", INDEX, []) == [
        "nvidia-open=580.159.04-1",
        "nvidia-fabricmanager=580.159.04-1",
    ]


def test_libraries_move_together_with_the_driver_in_both_directions() -> None:
    driver = dict.fromkeys([*BOTH, "libcuda1"], "595.58.03-1")
    assert set(steps.transaction(DATA, BOTH, driver, "580.159.04", INDEX, [])) == {
        "nvidia-open=580.159.04-1",
        "nvidia-fabricmanager=580.159.04-1",
        "libcuda1=580.159.04-1",
    }


def test_a_fabric_manager_of_another_version_is_moved_to_the_drivers() -> None:
    driver = {"nvidia-open": "580.159.04-1", "nvidia-fabricmanager": "595.58.03-1"}
    assert "nvidia-fabricmanager=580.159.04-1" in steps.transaction(DATA, BOTH, driver, "580.159.04", INDEX, [])


def test_a_host_at_the_version_has_nothing_to_install() -> None:
    assert steps.transaction(DATA, BOTH, dict.fromkeys(BOTH, "580.159.04-1"), "580.159.04", {}, []) == []


def test_nvlink_5_is_told_by_the_gpus_name() -> None:
    assert facts.has_nvlink5({"pci_gpus": [{"name": "B200 SXM"}]})
    assert facts.has_nvlink5({"pci_gpus": [{"name": "GB200"}]})
    assert not facts.has_nvlink5({"pci_gpus": [{"name": "H200 SXM5 141GB"}, {"name": None}]})
    assert not facts.has_nvlink5({})


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        (loaded("580.159.04"), None),
        (loaded("580.95.05"), "the loaded module is 580.95.05, the installed driver 580.159.04"),
        (loaded(None, nouveau_loaded=True), "nouveau holds the GPUs"),
        (loaded(None, nova_loaded=True), "nova-core holds the GPUs"),
        (loaded(None), "the nvidia module is not loaded"),
        ({**loaded(None), "kernel": "6.0"}, "the running kernel 6.0 has no nvidia module"),
        ({**HEALTHY, "nvidia": {"module": {"loaded": True, "version": None, "open": None}}}, None),
        (
            {**HEALTHY, "nvidia": {"module": {"loaded": True, "version": None, "open": False}}},
            "the loaded module is the proprietary one",
        ),
    ],
)
def test_a_reboot_is_needed_exactly_where_the_driver_does_not_work_without(
    host: dict[str, Any], reason: str | None
) -> None:
    assert steps.reboot_reasons(host, KERNELS, "580.159.04") == ([reason] if reason else [])


def test_no_gpu_and_an_old_gpu_are_refused_and_the_unknown_is_not() -> None:
    assert findings.of_gpus({}, "7.5") == []
    assert [finding["code"] for finding in findings.of_gpus({"pci_gpus": []}, "7.5")] == ["no-gpu"]
    volta = {"address": "0000:3b:00.0", "id": "10de:1db4", "name": "V100", "compute_capability": "7.0"}
    new = {**volta, "compute_capability": "12.0"}
    assert [finding["code"] for finding in findings.of_gpus({"pci_gpus": [volta, new]}, "7.5")] == ["gpu-too-old"]


def test_secure_boot_without_an_enrolled_key_is_refused_with_the_commands() -> None:
    host = {"secure_boot": {"enabled": True, "mok_enrolled": False}}
    (finding,) = findings.of_secure_boot(host, DATA, WANTED)
    assert "mokutil --import /var/lib/dkms/mok.pub" in finding["message"]
    enrolled = {"secure_boot": {"enabled": True, "mok_enrolled": True}}
    assert findings.of_secure_boot(enrolled, DATA, WANTED) == []
    assert findings.of_secure_boot({"secure_boot": {"enabled": None}}, DATA, WANTED) == []


def test_packages_half_installed_are_told_from_sound_and_removed_ones() -> None:
    found = packages.parse_list("a\t1\tii \nb\t1\thi \nc\t1\tiF \nd\t1\trc \ne\t\tun \n")
    assert found == {"a": ("1", "ii"), "b": ("1", "hi"), "c": ("1", "iF")}


def test_several_kernels_of_one_package_name_are_several() -> None:
    text = "kernel-core\t5.14.0-427\tii\nkernel-core\t5.14.0-503\tii\nbash\t5\tii\n"
    assert packages.kernel_packages(text, "^kernel-core$") == ["kernel-core 5.14.0-427", "kernel-core 5.14.0-503"]


def test_held_packages_are_read_from_both_package_managers() -> None:
    assert facts.held_names("nvidia-open\nlibcuda1\n") == {"nvidia-open", "libcuda1"}
    assert facts.held_names("nvidia-open-3:580.159.04-1.el9.*\n") == {"nvidia-open"}


def test_mixed_origins_are_named_with_their_packages() -> None:
    versions = packages.parse_versions(
        "nvidia-open | 580.159.04-1 | http://nvidia x\nnvidia-fabricmanager | 580.95.05-0ubuntu1 | http://ubuntu y"
    )
    installed = {"nvidia-open": "580.159.04-1", "nvidia-fabricmanager": "580.95.05-0ubuntu1"}
    (finding,) = findings.of_origins(packages.origins(installed, versions))
    assert "nvidia-fabricmanager from http://ubuntu y" in finding["message"]
    assert finding["code"] == "driver-origins-mixed"
    assert finding["severity"] == "warning"


def kernel(root: Path, release: str) -> Path:
    directory = root / "lib/modules" / release
    (directory / "kernel").mkdir(parents=True)
    return directory


def test_only_directories_with_a_kernels_own_modules_are_kernels(tmp_path: Path) -> None:
    kernel(tmp_path, "6.1.0-40-amd64")
    (tmp_path / "lib/modules/6.1.0-41-amd64/updates").mkdir(parents=True)
    assert kernels.releases(tmp_path) == ["6.1.0-40-amd64"]


@pytest.mark.parametrize("name", ["updates/dkms/nvidia.ko.xz", "updates/dkms/nvidia-current.ko", "extra/nvidia.ko"])
def test_the_module_of_a_kernel_is_found_where_platforms_put_it(tmp_path: Path, name: str) -> None:
    path = kernel(tmp_path, "6.1") / name
    path.parent.mkdir(parents=True)
    assert kernels.module_file(tmp_path, "6.1") is None
    path.touch()
    assert kernels.module_file(tmp_path, "6.1") == str(path)


def test_an_initramfs_older_than_the_blacklist_or_without_it_is_made_anew(tmp_path: Path) -> None:
    image, file = tmp_path / "boot/initrd.img-6.1", tmp_path / "etc/modprobe.d/x.conf"
    data = DATA["initramfs"]

    def outdated(listing: str) -> list[str]:
        def run(argv: Sequence[str]) -> str:
            return listing

        return list(kernels.outdated_initramfs(tmp_path, data, ["6.1"], "/etc/modprobe.d/x.conf", run))

    assert outdated("") == [], "a kernel without an initramfs needs none"
    image.parent.mkdir(parents=True)
    image.touch()
    assert outdated("") == ["6.1"], "no blacklist yet"
    file.parent.mkdir(parents=True)
    file.touch()
    os.utime(image, (1, 1))
    assert outdated("etc/modprobe.d/x.conf") == ["6.1"], "older than the blacklist"
    os.utime(file, (1, 1))
    assert outdated("nouveau.ko") == ["6.1"], "does not hold it"
    assert outdated("etc/modprobe.d/x.conf") == []


def test_the_stream_is_chosen_only_where_another_one_is(tmp_path: Path) -> None:
    entry = {"file": "/m", "shows": "stream=580-open", "commands": [["dnf", "enable"]]}
    assert steps.unprepared(tmp_path, [entry]) == [["dnf", "enable"]]
    (tmp_path / "m").write_text("[nvidia-driver]\nstream=580-open\n")
    assert steps.unprepared(tmp_path, [entry]) == []


def test_services_start_only_where_the_driver_is_at_work() -> None:
    def show(unit: str) -> dict[str, str]:
        return {"LoadState": "loaded", "UnitFileState": "enabled", "ActiveState": "inactive"}

    assert steps.services(["a.service"], False, show) == []
    assert steps.services(["a.service"], True, show) == [{"unit": "a.service", "enable": False, "start": True}]


def test_a_repository_that_does_not_answer_is_a_finding(tmp_path: Path) -> None:
    data = {**DATA, "url": f"file://{tmp_path}/"}
    index, (finding,) = facts.read_index(data, ["nvidia-open"], lambda argv: "", 5)
    assert index is None
    assert finding["code"] == "driver-repository-unreachable"
