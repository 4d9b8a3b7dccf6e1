"""How long plans take: processor time, so that a busy machine changes nothing."""

from __future__ import annotations

import time

from vllm_fleet.plan.cards import hypothetical
from vllm_fleet.plan.flags import FlagCatalogue
from vllm_fleet.plan.serving import make_plan
from vllm_fleet.plan.settings import Settings

FLAGS = FlagCatalogue.load()
LLMS = {
    "Qwen/Qwen2.5-32B-Instruct": 2,
    "Qwen/Qwen2.5-14B-Instruct": 2,
    "Qwen/Qwen2.5-7B-Instruct": 1,
    "meta-llama/Llama-3.1-8B-Instruct": 1,
}
ENCODERS = {"embedding": "BAAI/bge-m3", "rerank": "BAAI/bge-reranker-v2-m3"}
TEN_SERVERS = [
    {"name": f"llm-{number}", "kind": "llm", "model": model, "tensor_parallel_size": size, "port": 8000 + number}
    for number, (model, size) in enumerate(LLMS.items())
] + [
    {"name": f"{kind}-{number}", "kind": kind, "model": model, "port": port + number}
    for port, (kind, model) in zip((8100, 8200), ENCODERS.items(), strict=True)
    for number in range(3)
]


def test_200_hosts_of_8_gpus_and_10_servers_take_less_than_2_seconds() -> None:
    began = time.process_time()
    for number in range(200):
        host = hypothetical("8xH100-80GB", f"gpu-{number}")
        assert make_plan(TEN_SERVERS, host, Settings(), FLAGS)[0] is not None
    assert time.process_time() - began < 2


def test_a_refusal_with_its_remedies_takes_less_than_a_second() -> None:
    began = time.process_time()
    plan, problems = make_plan(TEN_SERVERS, hypothetical("2xL4"), Settings(), FLAGS)
    assert plan is None
    assert any(problem.remedies for problem in problems if problem.severity == "error")
    assert time.process_time() - began < 1
