"""The module starts the proof as the servers' user in a transient unit that ends by itself."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from tests.load import load


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module, with the probe where Ansible puts it."""
    monkeypatch.setitem(sys.modules, "ansible.module_utils.cuda_probe", load("plugins/module_utils/cuda_probe.py"))
    return load("plugins/modules/gpu_health.py")


def test_a_transient_unit_carries_every_property_of_the_sandbox(module: ModuleType) -> None:
    command = module.transient_unit("vllm", ["DevicePolicy=closed", "DeviceAllow=char-nvidia* rwm"], 60)
    assert command[0] == "systemd-run"
    assert {"--property=User=vllm", "--property=DevicePolicy=closed", "--property=DeviceAllow=char-nvidia* rwm"} <= set(
        command
    )


def test_a_unit_outlives_the_limit_of_the_proof_and_not_by_much(module: ModuleType) -> None:
    command = module.transient_unit("vllm", [], 60)
    (limit,) = [word for word in command if word.startswith("--property=RuntimeMaxSec=")]
    assert 60 < int(limit.rpartition("=")[2]) <= 90
