"""Numbers of a former start replace the estimate, where that start was the same."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.unit.plan.memory.models import BGE_M3, GIB, H100, MIB, QWEN_3B, RAM, server
from vllm_fleet.plan.declaration import ModelServer
from vllm_fleet.plan.flags import FlagCatalogue
from vllm_fleet.plan.memory.demand import Demand
from vllm_fleet.plan.memory.estimate import estimate
from vllm_fleet.plan.memory.kv_cache import kv_tokens
from vllm_fleet.plan.settings import Settings

VERSION = FlagCatalogue.load().version
LLM = server(QWEN_3B, max_model_len=8192, extra_args={"max-num-seqs": 64})
SHARE = int(0.5 * H100.memory_bytes)
BLOCKS = 50_000
# Constructed: what a start with half of the card would report.
RECORD: dict[str, Any] = {
    "release": f"{VERSION}-cuda-0123abcd",
    "backend": "cuda",
    "argv": [
        *("serve", "/var/lib/vllm-fleet/models/Qwen--Qwen2.5-3B-Instruct", "--dtype", "float16"),
        *("--tensor-parallel-size", "1", "--max-model-len", "8192", "--max-num-seqs", "64"),
        *("--host", "127.0.0.1", "--port", "32804", "--gpu-memory-utilization", "0.5"),
    ],
    "device_names": [H100.name],
    "device_bytes": [SHARE + 600 * MIB],
    "weights_bytes": 6_200_000_000,
    "consumed_bytes": 6_500_000_000,
    "graphs_bytes": 400 * MIB,
    "graphs_reserved_bytes": 500 * MIB,
    "share_bytes": SHARE,
    "num_gpu_blocks": BLOCKS,
}


def planned(record: dict[str, Any], declared: ModelServer = LLM, device: Any = H100) -> Demand:
    return estimate(declared, QWEN_3B, device, Settings(), record)


def test_the_next_plan_says_the_tokens_that_vllm_reported() -> None:
    demand = planned(RECORD)
    assert demand.source == "measured"
    assert demand.weights.bytes == 6_200_000_000
    assert kv_tokens(demand, demand.cache_bytes(SHARE)) == BLOCKS * 16


def test_another_share_gets_the_difference() -> None:
    demand = planned(RECORD)
    more = demand.cache_bytes(SHARE + GIB) - demand.cache_bytes(SHARE)
    assert more == GIB


def test_what_lies_outside_of_the_share_is_what_the_card_holds_beyond_it_if_that_is_more() -> None:
    held = RECORD["consumed_bytes"] + RECORD["graphs_bytes"] + BLOCKS * 589_824
    assert planned(RECORD | {"device_bytes": [held + 9 * GIB]}).context.bytes == 9 * GIB
    idle = planned(RECORD | {"device_bytes": [held + 500 * MIB]})
    assert idle.context == estimate(LLM, QWEN_3B, H100, Settings()).context


@pytest.mark.parametrize(
    "change",
    [
        {"dtype": "float32"},
        {"max_model_len": 4096},
        {"extra_args": {"max-num-seqs": 65}},
        {"extra_args": {}},
        {"extra_args": {"max-num-seqs": 64, "enforce-eager": True}},
        {"tensor_parallel_size": 2},
        {"model": "Qwen/Qwen2.5-7B-Instruct"},
        {"revision": "0123abc"},
    ],
)
def test_a_start_with_other_settings_counts_for_nothing(change: dict[str, Any]) -> None:
    declared = replace(LLM, **change)
    assert planned(RECORD, declared) == estimate(declared, QWEN_3B, H100, Settings())


@pytest.mark.parametrize(
    "change",
    [{"release": "0.31.0-cuda-0123abcd"}, {"device_names": ["NVIDIA L40S"]}, {"device_names": []}, {"argv": None}],
)
def test_neither_does_another_vllm_another_card_or_a_broken_record(change: dict[str, Any]) -> None:
    assert planned(RECORD | change).source == "estimate"


@pytest.mark.parametrize("change", [{"port": 1}, {"served_model_name": "x"}, {"gpu_memory_utilization": 0.9}])
def test_what_memory_does_not_depend_on_may_change(change: dict[str, Any]) -> None:
    assert planned(RECORD, replace(LLM, **change)).source == "measured"


def test_what_a_record_does_not_know_is_estimated() -> None:
    nothing = {name: None for name in RECORD if name.endswith(("bytes", "blocks"))}
    assert replace(planned(RECORD | nothing), source="estimate") == estimate(LLM, QWEN_3B, H100, Settings())


def test_an_encoder_seen_with_more_is_given_more() -> None:
    declared = server(BGE_M3)
    estimated = estimate(declared, BGE_M3, H100, Settings())
    argv = ["serve", "/m/BAAI--bge-m3", *("--dtype", "float16", "--tensor-parallel-size", "1", "--runner", "pooling")]
    seen = {"device_bytes": [6 * GIB], "argv": argv}
    record = {name: RECORD[name] for name in ("release", "backend", "device_names")} | seen
    assert estimate(declared, BGE_M3, H100, Settings(), record).fixed.bytes == 6 * GIB
    less = record | {"device_bytes": [GIB]}
    assert estimate(declared, BGE_M3, H100, Settings(), less).fixed == estimated.fixed


def test_on_processors_the_processes_are_measured() -> None:
    record = {
        "release": f"{VERSION}-cpu-0123abcd",
        "backend": "cpu",
        "argv": [word for word in RECORD["argv"] if word not in ("--gpu-memory-utilization", "0.5")],
        "host_bytes": 12 * GIB,
        "kv_cache_bytes": 4 * GIB,
    }
    demand = estimate(LLM, QWEN_3B, RAM, Settings(backend="cpu"), record)
    assert demand.source == "measured"
    assert demand.context.bytes + demand.weights.bytes == 8 * GIB
