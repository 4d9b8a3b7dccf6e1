"""The plan says what is passed to vLLM, and refuses what cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from vllm_fleet.plan.endpoints import endpoints
from vllm_fleet.plan.flags import FlagCatalogue
from vllm_fleet.plan.host import Device, Host
from vllm_fleet.plan.serving import ServingPlan, make_plan
from vllm_fleet.plan.settings import Settings

ROOT = Path(__file__).resolve().parents[3]
FLAGS = FlagCatalogue.load()


def gpus(count: int) -> tuple[Device, ...]:
    return tuple(Device(n, "NVIDIA L40S", 46068 << 20, visible_as=str(n), lock=f"gpu-{n}") for n in range(count))


HOST = Host("gpu-01", "192.0.2.11", tuple(range(16)), 64 * 2**30, gpus(2))
GUIDE = yaml.safe_load((ROOT / "inventory/example/group_vars/gpu_hosts.yml").read_text(encoding="utf-8"))


def plan_of(declared: Any, host: Host = HOST, **settings: Any) -> ServingPlan:
    plan, problems = make_plan(declared, host, Settings(**settings), FLAGS)
    assert plan is not None, problems
    return plan


def problems_of(declared: Any, host: Host = HOST, **settings: Any) -> list[str]:
    plan, problems = make_plan(declared, host, Settings(**settings), FLAGS)
    assert plan is None
    return [str(problem) for problem in problems if problem.severity == "error"]


def test_the_guide_s_flags_and_ports_reach_vllm() -> None:
    llm, embedding, rerank = plan_of(GUIDE["model_servers"]).servers
    assert llm.argv[2:9] == (
        *("--dtype", "float16", "--tensor-parallel-size", "2"),
        *("--enable-auto-tool-choice", "--tool-call-parser", "hermes"),
    )
    assert "--trust-remote-code" in llm.argv
    assert [server.port for server in (llm, embedding, rerank)] == [32804, 32805, 32806]
    for server in (embedding, rerank):
        assert "--runner pooling" in " ".join(server.argv)
        assert "--dtype float16" in " ".join(server.argv)


def test_the_default_declaration_is_the_example_inventory() -> None:
    defaults = yaml.safe_load((ROOT / "roles/serving_plan/defaults/main.yml").read_text(encoding="utf-8"))
    assert defaults["serving_plan_default_model_servers"] == GUIDE["model_servers"]


def test_this_host_declares_what_the_example_declares() -> None:
    this_host = yaml.safe_load((ROOT / "inventory/this-host/group_vars/gpu_hosts.yml").read_text(encoding="utf-8"))
    assert this_host["model_servers"] == GUIDE["model_servers"]


def test_servers_that_share_a_gpu_start_under_one_lock() -> None:
    llm, embedding, rerank = plan_of(GUIDE["model_servers"]).servers
    assert set(llm.device_locks) == {"gpu-0", "gpu-1"}
    assert {embedding.device_locks, rerank.device_locks} == {("gpu-0",), ("gpu-1",)}


def test_the_guide_s_three_servers_share_two_gpus_and_vllm_is_told_the_shares() -> None:
    llm, embedding, rerank = plan_of(GUIDE["model_servers"]).servers
    assert (llm.gpus, {embedding.gpus, rerank.gpus}) == ((0, 1), {(0,), (1,)})
    for server in (llm, embedding, rerank):
        assert server.argv[server.argv.index("--gpu-memory-utilization") + 1] == str(server.share)
        assert server.env["CUDA_VISIBLE_DEVICES"] == ",".join(map(str, server.gpus))
    assert llm.memory is not None
    assert llm.memory.requests_at_full_length > 1


def test_memory_promised_twice_is_refused() -> None:
    both = {"gpus": [0], "gpu_memory_utilization": 0.9}
    found = problems_of([GUIDE["model_servers"][1] | both, GUIDE["model_servers"][2] | both])
    assert len(found) == 1
    assert found[0].startswith("GPU 0: gpu_memory_utilization adds up to 1.8 (embedding 0.9, rerank 0.9)")


def test_more_gpus_than_the_host_has_are_refused() -> None:
    found = problems_of(GUIDE["model_servers"], Host("gpu-01", "192.0.2.11", (0, 1), 2**34, gpus(1)))
    assert found[0].startswith("server llm: tensor_parallel_size 2 wants 2 GPUs, the host has 1 GPU; fits with")


def test_without_a_driver_nothing_is_said_about_gpus() -> None:
    plan_of(GUIDE["model_servers"], Host("gpu-01", "192.0.2.11", (0, 1), 2**34))


def test_an_unknown_backend_is_refused() -> None:
    assert problems_of(GUIDE["model_servers"], backend="rocm") == [
        "vllm_runtime_backend: expected cuda or cpu, found 'rocm'"
    ]


def test_two_cores_are_split_between_the_two_ranks_of_the_llm() -> None:
    host = Host("lab-1", "10.0.0.2", (0, 1), 2**34)
    llm, embedding, rerank = plan_of(GUIDE["model_servers"], host, backend="cpu").servers
    assert llm.env["VLLM_CPU_OMP_THREADS_BIND"] == "0|1"
    assert embedding.env["VLLM_CPU_OMP_THREADS_BIND"] == rerank.env["VLLM_CPU_OMP_THREADS_BIND"] == "0,1"
    assert llm.device_locks == embedding.device_locks == ("cpu",)


def test_with_enough_cores_no_two_ranks_share_one() -> None:
    servers = plan_of(GUIDE["model_servers"], backend="cpu").servers
    lists = "|".join(server.env["VLLM_CPU_OMP_THREADS_BIND"] for server in servers).replace("|", ",").split(",")
    assert sorted(map(int, lists)) == list(range(16))


def test_a_model_has_a_directory_per_commit() -> None:
    declared = [{"name": "a", "kind": "llm", "model": "Org/Name", "revision": "abc", "port": 8000}]
    assert plan_of(declared).models[0].path == "/var/lib/vllm-fleet/models/Org--Name/abc"


def test_a_directory_on_the_host_is_served_where_it_is() -> None:
    plan = plan_of([{"name": "a", "kind": "llm", "model": "/data/m", "port": 8000}])
    assert (plan.models[0].id, plan.models[0].path) == (None, "/data/m")
    assert plan.servers[0].argv[1] == "/data/m"


def test_two_servers_of_one_model_share_its_files() -> None:
    declared = [
        {"name": n, "kind": "embedding", "model": "BAAI/bge-m3", "port": p, "gpus": [g]}
        for n, p, g in (("a", 8000, 0), ("b", 8001, 1))
    ]
    assert len(plan_of(declared).models) == 1


@pytest.mark.parametrize(
    ("bind", "base_url", "probe"),
    [
        ("127.0.0.1", "http://127.0.0.1:32804", "127.0.0.1"),
        ("0.0.0.0", "http://192.0.2.11:32804", "127.0.0.1"),
        ("10.1.2.3", "http://10.1.2.3:32804", "10.1.2.3"),
    ],
)
def test_clients_are_told_an_address_that_reaches_the_server(bind: str, base_url: str, probe: str) -> None:
    server = plan_of(GUIDE["model_servers"], bind_address=bind).servers[0]
    assert (server.base_url, server.probe_address) == (base_url, probe)


def test_declared_environment_wins() -> None:
    declared = [GUIDE["model_servers"][0] | {"env": {"HF_HUB_OFFLINE": 0}}]
    assert plan_of(declared).servers[0].env["HF_HUB_OFFLINE"] == "0"


def test_endpoints_carry_what_the_verification_needs_and_no_command_line() -> None:
    told = endpoints([plan_of(GUIDE["model_servers"]).as_dict()], api_key="k")["servers"][0]
    assert told["model"] == "qwen2.5-3b-instruct"
    assert told["tool_calls"] is True
    assert told["api_key"] == "k"
    assert "argv" not in told


def test_a_watchdog_that_would_restart_busy_servers_is_refused() -> None:
    found = problems_of(GUIDE["model_servers"], watchdog_seconds=10)
    assert found == ["model_server_watchdog_seconds: expected 0 (no watchdog) or at least 15, found 10"]
    assert plan_of(GUIDE["model_servers"], watchdog_seconds=0)


def test_a_port_that_vllm_would_hand_out_twice_is_refused() -> None:
    declared = [dict(server, env={"VLLM_PORT": "40000"}) for server in GUIDE["model_servers"][:1]]
    (found,) = problems_of(declared)
    assert "server llm: env: VLLM_PORT makes vLLM's inner ports collide" in found


def test_a_declared_kv_cache_is_what_the_server_gets() -> None:
    fixed = {"extra_args": {"kv-cache-memory-bytes": 4 << 30}}
    llm = plan_of([GUIDE["model_servers"][0] | fixed]).servers[0]
    assert llm.memory is not None
    assert llm.memory.kv_cache_bytes == 4 << 30
    # In each of 36 layers keys and values of one KV head, 128 float16 numbers each, in blocks of 16 tokens.
    assert llm.memory.kv_tokens == (4 << 30) // (36 * 2 * 128 * 2 * 16) * 16
    assert llm.share is not None
    assert llm.share < 0.25


def test_a_declared_kv_cache_that_holds_no_request_of_full_length_is_refused_with_the_length_that_fits() -> None:
    (found,) = problems_of([GUIDE["model_servers"][0] | {"extra_args": {"kv-cache-memory-bytes": 1 << 28}}])
    assert "kv-cache-memory-bytes is 0.2 GiB, and one request of 32,768 tokens needs 0.6 GiB" in found
    assert "max_model_len <= 14,336 for llm" in found


def test_a_model_that_a_slow_disk_cannot_bring_up_in_time_is_warned_of() -> None:
    declared = [
        {"name": "big", "kind": "llm", "model": "Qwen/Qwen2.5-72B-Instruct", "port": 8000} | {"tensor_parallel_size": 4}
    ]
    host = Host("gpu-01", "192.0.2.11", (0, 1), 2**40, gpus(4))
    (warned,) = make_plan(declared, host, Settings(start_timeout=600), FLAGS)[1]
    # 145 GB at 200 MB/s are 12 minutes, and 5 for the rest.
    assert "takes about 17 minutes" in warned.message
    assert "Raise it to 1200" in warned.message
    assert make_plan(declared, host, Settings(start_timeout=1200), FLAGS)[1] == ()


@pytest.mark.parametrize("flag", ["pipeline-parallel-size", "--data_parallel_size", "nnodes"])
def test_more_gpus_than_are_planned_for_are_refused(flag: str) -> None:
    declared = [GUIDE["model_servers"][0] | {"extra_args": {flag: 2, "max-num-seqs": 64}}]
    (found,) = [problem for problem in make_plan(declared, HOST, Settings(), FLAGS)[1] if problem.severity == "error"]
    assert "2 takes more GPUs than tensor_parallel_size" in found.message
    ((change,),) = found.remedies
    assert change.value == {"max-num-seqs": 64}
    plan_of([GUIDE["model_servers"][0] | {"extra_args": change.value}])
    plan_of([GUIDE["model_servers"][0] | {"extra_args": {flag: 1}}])
