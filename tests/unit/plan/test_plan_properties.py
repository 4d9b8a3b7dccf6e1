"""What holds of every plan, whatever is declared on whatever host."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from vllm_fleet.plan.cards import hypothetical
from vllm_fleet.plan.flags import FlagCatalogue
from vllm_fleet.plan.host import Host
from vllm_fleet.plan.problems import Change, Problem
from vllm_fleet.plan.result import Memory, ServingPlan
from vllm_fleet.plan.serving import make_plan
from vllm_fleet.plan.settings import Settings

FLAGS = FlagCatalogue.load()
MODELS = {
    "llm": [f"Qwen/Qwen2.5-{size}-Instruct" for size in ("3B", "7B", "32B", "72B")],
    "embedding": ["BAAI/bge-m3"],
    "rerank": ["BAAI/bge-reranker-v2-m3"],
}
CARDS = ("T4", "L4", "L40S", "RTX 4090", "A100-80GB", "H100-80GB", "H200")

hosts = st.builds(
    lambda count, card: hypothetical(f"{count}x{card}"), st.sampled_from([1, 2, 4]), st.sampled_from(CARDS)
)


@st.composite
def declarations(draw: st.DrawFn) -> list[dict[str, Any]]:
    """One to four servers of known models, some with GPUs, shares or lengths of their own."""
    servers = []
    for number in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(["llm", "embedding", "rerank"]))
        size = draw(st.sampled_from([1, 1, 2, 4])) if kind == "llm" else 1
        server: dict[str, Any] = {
            "name": f"{kind}-{number}",
            "kind": kind,
            "model": draw(st.sampled_from(MODELS[kind])),
            "port": 8000 + number,
            "dtype": "float16",
            "tensor_parallel_size": size,
        }
        server |= draw(
            st.fixed_dictionaries(
                {},
                optional={
                    "gpus": st.just(list(range(size))),
                    "gpu_memory_utilization": st.sampled_from([0.1, 0.3, 0.6, 0.9]),
                    "max_model_len": st.sampled_from([2048, 8192]),
                },
            )
        )
        servers.append(server)
    return servers


def plan(declared: list[dict[str, Any]], host: Host) -> tuple[ServingPlan | None, tuple[Problem, ...]]:
    return make_plan(declared, host, Settings(), FLAGS)


def changed(
    declared: list[dict[str, Any]], host: Host, remedy: tuple[Change, ...]
) -> tuple[list[dict[str, Any]], Host]:
    """Do what a remedy says, as a person would in the inventory."""
    servers = [dict(server) for server in declared]
    for change in remedy:
        if change.server is None:
            host = host.with_gpus(change.value)
        for server in servers:
            if server["name"] == change.server:
                server[change.key] = change.value
    return [{key: value for key, value in server.items() if value is not None} for server in servers], host


def fixed(memory: Memory) -> tuple[tuple[int, int], ...]:
    return memory.weights, memory.activations, memory.graphs, memory.context


def running(served: ServingPlan | None) -> dict[str, dict[str, Any]]:
    """Return what model_server_facts says of a host that serves a plan."""
    return (
        {s.name: {"visible": [str(gpu) for gpu in s.gpus], "share": s.share} for s in served.servers} if served else {}
    )


@given(declarations(), hosts)
def test_no_gpu_is_promised_more_than_it_has(declared: list[dict[str, Any]], host: Host) -> None:
    found, problems = plan(declared, host)
    assume(found is not None)
    assert found is not None
    doubted = {problem.where for problem in problems if problem.code == "plan-memory"}
    for device in found.devices:
        here = [server for server in found.servers if device.index in server.gpus]
        assert sum(server.share or 0 for server in here) * device.memory_bytes <= device.limit_bytes + 1
        memories = [server.memory for server in here if server.memory is not None]
        assert len(memories) == len(here)
        taken = sum(memory.kv_cache_bytes + sum(amount for amount, _ in fixed(memory)) for memory in memories)
        assert taken <= device.memory_bytes
        for server in here:
            assert server.share is not None
            assert server.memory is not None
            assert (server.memory.kv_tokens > 0) == (server.kind == "llm") or f"server {server.name}" in doubted
            assert (
                server.kind != "llm" or server.memory.requests_at_full_length >= 1 or f"server {server.name}" in doubted
            )


@given(declarations(), hosts, st.randoms())
def test_the_order_of_the_declaration_changes_nothing(declared: list[dict[str, Any]], host: Host, random: Any) -> None:
    shuffled = random.sample(declared, len(declared))
    (one, problems), (other, others) = plan(declared, host), plan(shuffled, host)
    assert one == other
    assert {str(problem) for problem in problems} == {str(problem) for problem in others}


@given(declarations(), hosts)
def test_another_gpu_never_makes_impossible_what_was_possible(declared: list[dict[str, Any]], host: Host) -> None:
    if plan(declared, host)[0] is not None:
        assert host.gpus is not None
        assert plan(declared, host.with_gpus(len(host.gpus) + 1))[0] is not None


@settings(max_examples=60)
@given(declarations(), hosts)
def test_every_refusal_names_changes_that_remove_it(declared: list[dict[str, Any]], host: Host) -> None:
    found, problems = plan(declared, host)
    errors = [problem for problem in problems if problem.severity == "error"]
    assert bool(errors) == (found is None)
    for problem in errors:
        assert problem.remedies or "a smaller model" in problem.message, problem
        for remedy in problem.remedies:
            _, left = plan(*changed(declared, host, remedy))
            assert (problem.where, problem.code) not in {(p.where, p.code) for p in left if p.severity == "error"}, (
                remedy
            )


@given(declarations(), hosts)
def test_what_runs_stays_where_it_is_with_the_share_it_has(declared: list[dict[str, Any]], host: Host) -> None:
    before = plan(declared[:-1], host)[0] if len(declared) > 1 else None
    after, _ = make_plan(declared, host, Settings(), FLAGS, now=running(before))
    if after is not None:
        again, _ = make_plan(declared, host, Settings(), FLAGS, now=running(after))
        assert again == after
        gpus = {server.name: server.gpus for server in after.servers}
        assert before is None or {server.name: server.gpus for server in before.servers}.items() <= gpus.items()


@given(declarations())
def test_the_plan_of_a_host_without_a_driver_is_marked(declared: list[dict[str, Any]]) -> None:
    host = replace(hypothetical("2xH100-80GB"), assumed=True)
    found, _ = plan(declared, host)
    if found is not None:
        assert found.assumed
