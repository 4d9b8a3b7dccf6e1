"""Models against the main memory of a host."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.model_facts import MODEL
from vllm_fleet.plan.checks.host import check_main_memory
from vllm_fleet.plan.declaration import ModelServer
from vllm_fleet.plan.host import Host
from vllm_fleet.plan.models.facts import Weights

SERVER = ModelServer("llm", "llm", "lab/model", 8000)
# 70,553,706,496 parameters in bfloat16, as Llama 3.1 70B has.
LARGE = replace(MODEL, weights=Weights(141_107_412_992, 0, 0, 0, 2))


@pytest.mark.parametrize(("gibibytes", "warned"), [(64, True), (131, True), (132, False), (1024, False), (0, False)])
def test_a_model_larger_than_main_memory_is_warned_of(gibibytes: int, warned: bool) -> None:
    found = check_main_memory(SERVER, LARGE, Host("gpu-01", "192.0.2.1", (0,), gibibytes << 30))
    assert [(one.where, one.code, one.severity) for one in found] == [("server llm", "plan-memory", "warning")] * warned
    if warned:
        assert f"are 131.4 GiB, the main memory of gpu-01 is {gibibytes}.0 GiB" in found[0].message


def test_of_a_model_nobody_knows_nothing_is_said() -> None:
    assert check_main_memory(SERVER, None, Host("gpu-01", "192.0.2.1", (0,), 1 << 30)) == []
