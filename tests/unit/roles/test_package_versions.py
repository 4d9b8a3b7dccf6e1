"""Installed packages are read alike from dpkg and rpm; the optional roles' findings are whole and documented."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from tests.load import ROOT, load

packages = load("plugins/modules/package_versions.py")
health = load("plugins/filter/findings.py")


def conditional_findings(role: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load((ROOT / f"roles/{role}/vars/main.yml").read_text())[f"__{role}_wrong"])


def test_a_removed_package_is_not_installed_though_dpkg_still_lists_it() -> None:
    text = (
        "datacenter-gpu-manager\t1:3.3.9\tconfig-files\n"
        "datacenter-gpu-manager-4-core\t1:4.5.2-1\tinstalled\n"
        "cuda-toolkit-13-0\t\tnot-installed\n"
    )
    assert packages.parse(text) == {"datacenter-gpu-manager-4-core": "1:4.5.2-1"}


def test_what_rpm_prints_is_read_as_well() -> None:
    assert packages.parse("cuda-toolkit-13-0\t13.0.3-1\tinstalled\n") == {"cuda-toolkit-13-0": "13.0.3-1"}


def test_only_findings_whose_condition_holds_are_kept_and_without_it() -> None:
    found = {"code": "a", "severity": "error", "message": "m"}
    assert health.findings_that_hold([{**found, "when": True}, {**found, "code": "b", "when": False}]) == [found]


@pytest.mark.parametrize("role", ["dcgm", "cuda_toolkit"])
def test_every_finding_is_whole_and_documented(role: str) -> None:
    text = (ROOT / "docs/gpu-health.md").read_text()
    for finding in conditional_findings(role):
        assert set(finding) == {"code", "severity", "message", "when"}
        assert finding["severity"] in ("error", "warning")
        assert finding["code"].startswith(role.replace("_", "-") + "-")
        assert f"`{finding['code']}`" in text


def test_the_toolkits_version_stands_in_torchs_lock_file() -> None:
    lock = (ROOT / "roles/vllm_runtime/files/locks/cuda.txt").read_text()
    assert re.search(r"(?m)^cuda-toolkit==([0-9]+)[.]([0-9]+)", lock)
