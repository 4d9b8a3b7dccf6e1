"""What is found of a host before vLLM is installed, and said in words an operator can act on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from tests.load import ROOT, load

facts = load("plugins/modules/vllm_runtime_facts.py")
PLATFORMS = yaml.safe_load((ROOT / "roles/vllm_runtime/vars/main.yml").read_text())["__vllm_runtime_platforms"]
CPU = {"backend": "cpu", "pythons": ["3.11"], "machines": ["x86_64"], "cpu_flags": ["avx2"]}
NEEDED = {"packages", "python", "list_packages", "refresh", "lists", "locks", "units"}

UBUNTU_22 = 'NAME="Ubuntu"\nID=ubuntu\nID_LIKE=debian\nVERSION_ID="22.04"\n'
ROCKY_9 = 'ID="rocky"\nID_LIKE="rhel centos fedora"\nVERSION_ID="9.4"\n'
DEBIAN_12 = 'ID=debian\nVERSION_ID="12"\n'


@pytest.mark.parametrize("text", [DEBIAN_12, UBUNTU_22, ROCKY_9])
def test_every_supported_platform_has_all_its_data(text: str) -> None:
    assert set(facts.platform_data(facts.parse_os_release(text), PLATFORMS)) == NEEDED


def test_the_more_special_entry_of_a_platform_overrides() -> None:
    data = facts.platform_data(facts.parse_os_release(UBUNTU_22), PLATFORMS)
    assert data["python"] == "3.12"
    assert "g++" in data["packages"]


def test_an_unknown_platform_is_refused_with_those_that_are_known() -> None:
    (found,) = facts.platform_findings({"ID": "plan9", "PRETTY_NAME": "Plan 9"}, PLATFORMS)
    assert found["code"] == "platform-unsupported"
    assert "Plan 9 is not supported" in found["message"]
    assert "debian" in found["message"]
    assert facts.platform_findings({"ID": "debian"}, PLATFORMS) == []


def test_a_login_without_roots_rights_is_refused_with_the_variables_to_set() -> None:
    (found,) = facts.login_findings(1000, "ansible")
    assert found["code"] == "not-root"
    assert "ansible_become" in found["message"]
    assert facts.login_findings(0, "root") == []


def test_a_glibc_older_than_the_packages_need_is_refused() -> None:
    (found,) = facts.glibc_findings("2.9")
    assert found["code"] == "glibc-too-old"
    assert facts.glibc_findings("2.28") == []


def test_a_processor_without_avx2_is_refused_for_the_cpu_build() -> None:
    (found,) = facts.processor_findings(CPU, "x86_64", "flags\t\t: fpu sse2\n")
    assert found["code"] == "processor"
    assert "avx2" in found["message"]
    assert facts.processor_findings(CPU, "x86_64", "flags\t\t: fpu avx2\n") == []


def test_an_architecture_the_lock_is_not_for_is_refused() -> None:
    (found,) = facts.processor_findings(CPU, "aarch64", "")
    assert found["code"] == "processor"
    assert "aarch64" in found["message"]
    assert "x86_64" in found["message"]


def test_a_clock_far_from_the_controllers_is_named_with_its_direction() -> None:
    (found,) = facts.clock_findings(1_000_000.0, 1_000_000.0 - 86400)
    assert found["code"] == "clock-differs"
    assert "86400 s behind" in found["message"]
    assert facts.clock_findings(1_000_000.0, 1_000_030.0) == []


def test_an_interpreter_the_lock_is_not_for_is_refused_with_the_variable_to_set() -> None:
    def run(argv: Sequence[str]) -> str:
        return "3.13"

    (found,) = facts.python_findings(CPU, "/usr/bin/env", run)
    assert found["code"] == "python-unsupported"
    assert "3.13" in found["message"]
    assert "3.11" in found["message"]
    assert "vllm_runtime_python" in found["message"]


def test_a_version_that_uv_will_fetch_is_compared_without_looking_for_it() -> None:
    assert facts.python_findings(CPU, "3.11", lambda argv: "") == []
    assert facts.python_findings(CPU, "3.12", lambda argv: "") != []


def test_a_full_disk_is_found_before_anything_is_installed(tmp_path: Path) -> None:
    needs = [facts.disk_need("vllm_runtime", tmp_path / name, size) for name, size in (("a/x", 1 << 60), ("cache", 0))]
    (found,) = facts.room_findings(needs, facts.ROOM)
    assert found["code"] == "disk-too-small"
    assert str(tmp_path / "a/x") in found["message"]
    assert "vllm_runtime_root" in found["message"]
    assert facts.room_findings([facts.disk_need("vllm_runtime", tmp_path, -(1 << 30))], facts.ROOM) == []


def test_root_and_persons_are_no_service_users() -> None:
    (found,), exists = facts.user_findings("root")
    assert exists
    assert found["code"] == "service-user"
    assert "vllm_runtime_user" in found["message"]
    assert facts.user_findings("no-such-user") == ([], False)


def test_a_release_without_its_last_file_is_installed_again(tmp_path: Path) -> None:
    release = tmp_path / "releases" / "x"
    (release / "bin").mkdir(parents=True)
    current = tmp_path / "current"
    works = lambda argv: "works"  # noqa: E731

    def pending() -> list[str]:
        return list(facts.release_pending({"path": str(release)}, str(current), works))

    assert pending() == [f"install {release}"]
    (release / facts.COMPLETE).write_text("{}")
    assert pending() == [f"point {current} to {release}"]
    current.symlink_to(release)
    assert pending() == []


def test_a_release_whose_interpreter_is_gone_is_installed_again(tmp_path: Path) -> None:
    (tmp_path / facts.COMPLETE).write_text("{}")
    (sentence,) = facts.release_pending({"path": str(tmp_path)}, str(tmp_path / "current"), lambda argv: "")
    assert "interpreter is gone" in sentence
