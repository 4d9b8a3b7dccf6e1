"""The driver's platform data against what NVIDIA documents, as data: most of these systems cannot be booted here."""

from __future__ import annotations

from typing import Any

import ansible.module_utils
import pytest
import yaml

from tests.load import ROOT

ansible.module_utils.__path__.append(str(ROOT / "plugins/module_utils"))
from ansible.module_utils.nvidia_driver import packages, platforms  # noqa: E402

VARIABLES = yaml.safe_load((ROOT / "roles/nvidia_driver/vars/main.yml").read_text())
PLATFORMS = VARIABLES["__nvidia_driver_platforms"]
BASE = "https://developer.download.nvidia.com/compute/cuda/repos"
WANTED = {
    "branch": "580",
    "version": "",
    "repository_url": BASE,
    "keyring": "",
    "manage_repo": True,
    "secure_boot": "refuse",
}
EL = ["rhel", "centos", "fedora"]
SYSTEMS: dict[str, dict[str, Any]] = {
    "debian12": {"id": "debian", "id_like": [], "version_id": "12"},
    "debian13": {"id": "debian", "id_like": [], "version_id": "13"},
    "ubuntu2204": {"id": "ubuntu", "id_like": ["debian"], "version_id": "22.04"},
    "ubuntu2404": {"id": "ubuntu", "id_like": ["debian"], "version_id": "24.04"},
    "ubuntu2604": {"id": "ubuntu", "id_like": ["debian"], "version_id": "26.04"},
    "rhel8": {"id": "almalinux", "id_like": EL, "version_id": "8.10"},
    "rhel9": {"id": "rocky", "id_like": EL, "version_id": "9.6"},
    "rhel10": {"id": "rhel", "id_like": ["fedora"], "version_id": "10.0"},
}
APT = [name for name in SYSTEMS if not name.startswith("rhel")]
DNF = [name for name in SYSTEMS if name.startswith("rhel")]


def resolved(name: str, machine: str = "x86_64", **wanted: object) -> dict[str, Any]:
    data = platforms.platform_data(SYSTEMS[name], PLATFORMS)
    return dict(platforms.resolve(data, machine, {**WANTED, **wanted}))


@pytest.mark.parametrize("name", SYSTEMS)
def test_every_platform_has_its_directory_of_the_repository(name: str) -> None:
    assert resolved(name)["url"] == f"{BASE}/{name}/x86_64/"
    assert resolved(name, "aarch64")["url"] == f"{BASE}/{name}/sbsa/"
    assert resolved(name, repository_url="http://mirror/cuda/")["url"] == f"http://mirror/cuda/{name}/x86_64/"


@pytest.mark.parametrize("name", SYSTEMS)
def test_every_platform_has_all_data(name: str) -> None:
    assert set(resolved(name)) == set(resolved("debian12"))


@pytest.mark.parametrize("name", APT)
def test_apt_platforms_name_the_repository_signed_by_nvidias_key(name: str) -> None:
    source, preferences = resolved(name)["repository_files"]
    assert (
        f"URIs: {BASE}/{name}/x86_64/\nSuites: /\nSigned-By: /usr/share/keyrings/cuda-archive-keyring.gpg"
        in source["content"]
    )
    assert "l=NVIDIA CUDA\nPin-Priority: 600" in preferences["content"]
    assert resolved(name)["keyring"]["source"] == f"{BASE}/{name}/x86_64/cuda-keyring_1.1-1_all.deb"


@pytest.mark.parametrize(("name", "key"), [("rhel8", "D42D0685"), ("rhel9", "D42D0685"), ("rhel10", "CDF6BA43")])
def test_el_platforms_name_the_repository_and_its_key(name: str, key: str) -> None:
    (source,) = resolved(name)["repository_files"]
    assert f"baseurl={BASE}/{name}/x86_64/\n" in source["content"]
    assert f"gpgcheck=1\ngpgkey={BASE}/{name}/x86_64/{key}.pub\n" in source["content"]


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_repository_that_is_not_ours_is_left_alone(name: str) -> None:
    data = resolved(name, manage_repo=False)
    assert data["repository_files"] == []
    assert data["index"] == ""


@pytest.mark.parametrize("name", APT)
def test_apt_platforms_pin_first_by_branch_or_exact_version(name: str) -> None:
    assert resolved(name)["pinning"] == ["nvidia-driver-pinning-580"]
    assert resolved(name, version="580.126.09")["pinning"] == ["nvidia-driver-pinning-580.126.09"]


@pytest.mark.parametrize("name", ["rhel8", "rhel9"])
def test_el_8_and_9_choose_the_open_stream_of_the_branch(name: str) -> None:
    (entry,) = resolved(name, branch="595")["prepare"]
    assert entry["commands"][-1] == ["dnf", "--assumeyes", "module", "enable", "nvidia-driver:595-open"]
    assert entry["shows"] == "stream=595-open"


def test_el_10_has_no_streams() -> None:
    assert resolved("rhel10")["prepare"] == []


@pytest.mark.parametrize("name", SYSTEMS)
def test_open_modules_and_the_unsuffixed_fabric_manager_are_installed(name: str) -> None:
    data = resolved(name)
    assert (data["packages"], data["fabric"], data["nvlink5"]) == (["nvidia-open"], ["nvidia-fabricmanager"], ["nvlsm"])


@pytest.mark.parametrize("name", SYSTEMS)
def test_dkms_and_what_it_builds_with_are_named(name: str) -> None:
    assert "dkms" in resolved(name)["prerequisites"]


@pytest.mark.parametrize("name", DNF)
def test_el_gets_epel_and_crb_for_dkms_and_a_cpp_compiler(name: str) -> None:
    data = resolved(name)
    major = name.removeprefix("rhel")
    assert data["prerequisite_repositories"][0][-1].endswith(f"epel-release-latest-{major}.noarch.rpm")
    assert data["prerequisite_repositories"][1] == ["/usr/bin/crb", "enable"]
    assert "gcc-c++" in data["prerequisites"]


def test_jammy_gets_the_compiler_its_hwe_kernels_are_built_with() -> None:
    assert "gcc-12" in resolved("ubuntu2204")["prerequisites"]
    assert "gcc-12" not in resolved("ubuntu2404")["prerequisites"]


@pytest.mark.parametrize(
    ("name", "release", "headers"),
    [
        ("debian12", "6.1.0-40-amd64", "linux-headers-6.1.0-40-amd64"),
        ("ubuntu2404", "6.8.0-45-generic", "linux-headers-6.8.0-45-generic"),
        ("rhel9", "5.14.0-427.el9.x86_64", "kernel-devel-5.14.0-427.el9.x86_64"),
    ],
)
def test_every_kernel_gets_its_headers(name: str, release: str, headers: str) -> None:
    assert packages.headers_packages(resolved(name), [release], {}) == [headers]


@pytest.mark.parametrize(
    ("installed", "headers"),
    [
        ("linux-image-amd64", ["linux-headers-amd64"]),
        ("linux-image-cloud-amd64", ["linux-headers-cloud-amd64"]),
        ("linux-image-generic-hwe-22.04", ["linux-headers-generic-hwe-22.04"]),
        ("linux-image-6.8.0-45-generic", []),
        ("linux-image-unsigned-6.8.0-45-generic", []),
    ],
)
def test_headers_keep_up_with_the_kernels_metapackage(installed: str, headers: list[str]) -> None:
    assert packages.headers_packages(resolved("ubuntu2204"), [], {installed: ("1", "ii")}) == headers


@pytest.mark.parametrize("name", ["ubuntu2204", "ubuntu2404", "ubuntu2604"])
def test_presigned_modules_come_from_ubuntu_and_are_not_built(name: str) -> None:
    data = resolved(name, secure_boot="presigned")
    assert data["headers"] == ["linux-modules-nvidia-580-server-open-{release}"]
    assert data["repository_files"] == data["pinning"] == data["prerequisites"] == []
    assert data["fabric"] == ["nvidia-fabricmanager-580"]


@pytest.mark.parametrize(
    ("system", "why"),
    [
        ({"id": "debian", "id_like": [], "version_id": "11"}, "too old"),
        ({"id": "ubuntu", "id_like": ["debian"], "version_id": "24.10"}, "no LTS"),
        ({"id": "centos", "id_like": ["rhel", "fedora"], "version_id": "7"}, "too old"),
        ({"id": "arch", "id_like": [], "version_id": None}, "unknown"),
    ],
)
def test_other_platforms_have_no_data(system: dict[str, Any], why: str) -> None:
    assert platforms.platform_data(system, PLATFORMS) == {}, why


def test_shell_and_query_formats_survive_the_filling_in() -> None:
    assert "${Package}" in resolved("debian12", version="580.126.09")["list"][2]
    assert "%{version}" in resolved("rhel9", version="580.126.09")["versions"][4]


def test_names_of_the_container_toolkit_are_not_the_drivers() -> None:
    data = resolved("debian12")
    names = ["nvidia-open", "libnvidia-ml1", "libcuda1", "nvidia-container-toolkit", "libnvidia-container1", "libc6"]
    mine = packages.of_driver(dict.fromkeys(names, ("1", "ii")), data["names"], data["not_names"])
    assert sorted(mine) == ["libcuda1", "libnvidia-ml1", "nvidia-open"]


def test_a_host_with_only_the_toolkit_has_no_driver_package() -> None:
    """Names from a real host whose driver came without packages."""
    data = resolved("ubuntu2404")
    names = ["libxnvctrl0", "cuda-compat-13-0", "cuda-driver-dev-13-0", "cuda-nvml-dev-13-0", "libnvjitlink-13-0"]
    assert packages.of_driver(dict.fromkeys(names, ("1", "ii")), data["names"], data["not_names"]) == {}


def test_a_key_in_text_form_keeps_the_name_apt_knows_it_by() -> None:
    keyring = resolved("debian12", keyring="/srv/keys/nvidia.asc")["keyring"]
    assert keyring["file"].endswith(".asc")
    assert not keyring["is_archive"]
    assert resolved("debian12")["keyring"]["is_archive"]


def test_the_blacklist_names_both_drivers_of_the_kernel() -> None:
    (blacklist, *_others) = VARIABLES["__nvidia_driver_files"]
    assert {"blacklist nouveau", "blacklist nova_core"} <= set(blacklist["content"].splitlines())
