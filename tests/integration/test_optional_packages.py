"""The optional roles dcgm and cuda_toolkit against stub packages with NVIDIA's names, in a repository on the host.

The stubs hold what the roles ask: nvcc and dcgmi that print a version and a list of GPUs, and a service.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.integration.conftest import Done, LabHost, run

pytestmark = pytest.mark.integration

# Name, version, and the files of each stub; DCGM 3 and 4 exclude each other, as NVIDIA's do.
MAKE_REPOSITORY = r"""
set -e
mkdir -p /srv/stubs && cd /srv/stubs
stub() { # name version conflicts; its files are in ./tree
  mkdir -p tree/DEBIAN
  printf 'Package: %s\nVersion: %s\n' "$1" "$2" > tree/DEBIAN/control
  printf 'Architecture: all\nMaintainer: test <test@example.org>\nDescription: stub\n' >> tree/DEBIAN/control
  [ -z "$3" ] || printf 'Conflicts: %s\n' "$3" >> tree/DEBIAN/control
  dpkg-deb --build --root-owner-group tree "$1_$(echo "$2" | tr : _).deb" > /dev/null
  rm -r tree
}
program() { mkdir -p "tree/$(dirname "$1")"; printf '#!/bin/sh\n%s\n' "$2" > "tree/$1"; chmod 755 "tree/$1"; }
program usr/local/cuda-13.0/bin/nvcc 'echo "Cuda compilation tools, release 13.0, V13.0.88"'
stub cuda-toolkit-13-0 13.0.3-1 ''
stub datacenter-gpu-manager 1:3.3.9 ''
program usr/bin/dcgmi 'cat /srv/stubs/gpus; exit "$(cat /srv/stubs/status)"'
mkdir -p tree/lib/systemd/system
printf '[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n' \
  > tree/lib/systemd/system/nvidia-dcgm.service
stub datacenter-gpu-manager-4-core 1:4.5.2-1 datacenter-gpu-manager
stub datacenter-gpu-manager-4-cuda13 1:4.5.2-1 datacenter-gpu-manager
for deb in *.deb; do
  dpkg-deb --field "$deb"
  printf 'Filename: ./%s\nSize: %s\nSHA256: %s\n\n' "$deb" "$(stat -c %s "$deb")" "$(sha256sum "$deb" | cut -d' ' -f1)"
done > Packages
echo 'deb [trusted=yes] file:/srv/stubs ./' > /etc/apt/sources.list.d/stubs.list
apt-get update --quiet --option Dir::Etc::SourceList=/etc/apt/sources.list.d/stubs.list --option Dir::Etc::SourceParts=-
"""


@pytest.fixture(scope="module")
def stubs(lab_host: LabHost) -> Iterator[LabHost]:
    """A host with the stubs' repository."""
    lab_host.read("sh", "-c", MAKE_REPOSITORY)
    yield lab_host
    lab_host.do("rm", "-rf", "/srv/stubs", "/etc/apt/sources.list.d/stubs.list")


@pytest.fixture
def host(stubs: LabHost) -> Iterator[LabHost]:
    """A host on which nothing of it is installed."""
    stubs.read("sh", "-c", "echo '2 GPUs found.' > /srv/stubs/gpus; echo 0 > /srv/stubs/status")
    yield stubs
    if installed(stubs):
        stubs.read("dpkg", "--purge", *installed(stubs))


def converge(tmp_path: Path, role: str, *options: str, **variables: object) -> Done:
    path = tmp_path / "play.yml"
    path.write_text(yaml.safe_dump([{"hosts": "gpu_hosts", "gather_facts": False, "roles": [role], "vars": variables}]))
    return run("ansible-playbook", path, *options)


def said(done: Done) -> str:
    return " ".join(done.output.split())


def installed(host: LabHost) -> list[str]:
    form = "--showformat=${Package} ${db:Status-Status}\n"
    lines = host.do("dpkg-query", "--show", form, "cuda-toolkit*", "datacenter-gpu-manager*").output.splitlines()
    return sorted(line.split()[0] for line in lines if line.endswith(" installed"))


def test_nothing_is_installed_unless_asked_for(host: LabHost, tmp_path: Path) -> None:
    for role in ("dcgm", "cuda_toolkit"):
        done = converge(tmp_path, role)
        assert done.status == 0, done.output
        assert "changed=0" in done.output
    assert installed(host) == []


def test_the_toolkit_of_the_pinned_torch_is_installed_once(host: LabHost, tmp_path: Path) -> None:
    checked = converge(tmp_path, "cuda_toolkit", "--check", cuda_toolkit_version="13-0")
    assert (checked.status, installed(host)) == (0, []), checked.output
    assert "changed=1" in checked.output
    first = converge(tmp_path, "cuda_toolkit", cuda_toolkit_version="13-0")
    assert (first.status, installed(host)) == (0, ["cuda-toolkit-13-0"]), first.output
    assert "changed=0" in converge(tmp_path, "cuda_toolkit", cuda_toolkit_version="13-0").output


@pytest.mark.parametrize(
    ("version", "sentence"),
    [
        ("12-8", "of another major version than the pinned torch, which is built with CUDA 13.0"),
        ("13.0", "is not a version of the form 13-0. Set it to 13-0"),
    ],
)
def test_a_toolkit_that_is_of_no_use_is_refused_before_anything_changes(
    host: LabHost, tmp_path: Path, version: str, sentence: str
) -> None:
    done = converge(tmp_path, "cuda_toolkit", cuda_toolkit_version=version)
    assert done.status == 2
    assert sentence in said(done), done.output
    assert installed(host) == []


def test_dcgm_4_takes_the_place_of_dcgm_3_and_lists_the_gpus(host: LabHost, tmp_path: Path) -> None:
    host.read("apt-get", "install", "--yes", "--quiet", "datacenter-gpu-manager")
    checked = converge(tmp_path, "dcgm", "--check", dcgm_enabled=True)
    assert (checked.status, installed(host)) == (0, ["datacenter-gpu-manager"]), checked.output
    first = converge(tmp_path, "dcgm", dcgm_enabled=True)
    assert first.status == 0, first.output
    assert installed(host) == ["datacenter-gpu-manager-4-core", "datacenter-gpu-manager-4-cuda13"]
    assert host.active(["nvidia-dcgm.service"]) == ["nvidia-dcgm.service"]
    assert "changed=0" in converge(tmp_path, "dcgm", dcgm_enabled=True).output


def test_dcgm_that_sees_no_gpu_fails_with_where_to_look(host: LabHost, tmp_path: Path) -> None:
    host.read("sh", "-c", "echo '0 GPUs found.' > /srv/stubs/gpus")
    done = converge(tmp_path, "dcgm", dcgm_enabled=True)
    assert done.status == 2
    assert "lab-1: DCGM lists no GPU (0 GPUs found.)" in said(done), done.output
    assert "journalctl -u nvidia-dcgm.service" in said(done)


def test_diagnostics_of_another_cuda_than_the_drivers_are_refused(host: LabHost, tmp_path: Path) -> None:
    done = converge(tmp_path, "dcgm", dcgm_enabled=True, dcgm_cuda_major="12")
    assert done.status == 2
    assert "dcgm_cuda_major is 12, the driver's CUDA is 13.0" in said(done), done.output
