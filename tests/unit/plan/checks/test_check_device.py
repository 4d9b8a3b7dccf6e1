"""Servers that cannot run on the devices of a host, and what helps."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.hosts.replay import facts as host_facts
from tests.model_facts import MODEL
from vllm_fleet.plan.cards import hypothetical
from vllm_fleet.plan.checks.device import check_device
from vllm_fleet.plan.checks.doubts import dtype_on
from vllm_fleet.plan.declaration import ModelServer, parse
from vllm_fleet.plan.flags import FlagCatalogue
from vllm_fleet.plan.host import Host
from vllm_fleet.plan.models.facts import ModelFacts
from vllm_fleet.plan.problems import Change, Problem
from vllm_fleet.plan.quantization import DATA, Method, methods
from vllm_fleet.plan.settings import Settings

FLAGS = FlagCatalogue.load()


def server(**keys: Any) -> ModelServer:
    return ModelServer(**{"name": "llm", "kind": "llm", "model": "lab/model", "port": 8000, **keys})


def problems(spec: str, declared: ModelServer, facts: ModelFacts | None = MODEL) -> list[Problem]:
    return check_device(declared, facts, hypothetical(spec).devices("cuda"), Settings(), FLAGS)


class Case(NamedTuple):
    gpus: str
    keys: dict[str, Any]
    model: dict[str, Any]
    severity: str
    message: str
    remedies: list[dict[str, Any]]


E, W = "error", "warning"
FP8_CACHE = {"extra_args": {"kv-cache-dtype": "fp8"}}
FLOAT16, FLOAT32, BFLOAT16 = {"dtype": "float16"}, {"dtype": "float32"}, {"dtype": "bfloat16"}
CASES = (
    Case("2xT4", BFLOAT16, {}, E, "dtype bfloat16 needs compute capability 8.0; GPU 0, 1 (Tesla T4) have", [FLOAT16]),
    Case("T4", BFLOAT16, {"model_type": "gemma2"}, E, "needs compute capability 8.0", [FLOAT32]),
    Case("T4 + L4", BFLOAT16, {}, E, "GPU 0 (Tesla T4) has 7.5", [FLOAT16, {"gpus": [1]}]),
    Case("T4 + 2xL4", {**BFLOAT16, "tensor_parallel_size": 2}, {}, E, "8.0", [FLOAT16, {"gpus": [1, 2]}]),
    Case("T4 + L4", {**BFLOAT16, "tensor_parallel_size": 2}, {}, E, "8.0", [FLOAT16]),
    Case("T4", {}, {}, W, "with dtype auto vLLM computes in float16 below that", [FLOAT16]),
    Case("T4", {}, {"model_type": "gemma3_text"}, W, "computes in float32 below that, with twice", [FLOAT32]),
    Case("V100", {}, {}, E, "vLLM needs compute capability 7.5; GPU 0 (Tesla V100-SXM2-32GB) has 7.0. Use newer", []),
    Case("V100 + T4", FLOAT16, {}, E, "has 7.0", [{"gpus": [1]}]),
    Case("A10", {}, {"quantization": "fp8"}, W, "computes in 16 bits (Marlin)", []),
    Case("L4 + A10", {}, {"quantization": "fp8"}, W, "GPU 1 (NVIDIA A10) has 8.6", [{"gpus": [0]}]),
    Case("T4", FLOAT16, {"quantization": "mxfp4"}, E, "quantization mxfp4 needs compute capability 8.0", []),
    Case("H100", FLOAT16, {"quantization": "mxfp4"}, E, "computes in bfloat16 only, dtype is float16", [BFLOAT16]),
    Case("L4", FLOAT32, {"quantization": "awq"}, E, "computes in bfloat16 or float16 only", [BFLOAT16, FLOAT16]),
    Case("T4", FLOAT32, {"quantization": "awq"}, E, "computes in bfloat16 or float16 only", [FLOAT16]),
    Case("H100", {"quantization": "fbgemm_fp8"}, {}, E, "deprecated",
         [{"extra_args": {"allow-deprecated-quantization": True}}]),
    Case("T4", {**FLOAT16, **FP8_CACHE}, {}, E, "kv-cache-dtype fp8 needs compute", [{"extra_args": {}}]),
    Case("A10", FP8_CACHE, {}, W, "FlashInfer alone can keep a KV cache in fp8", [{"extra_args": {}}]),
    Case("A10", FP8_CACHE, {"kv_lora_rank": 512}, E, "needs compute capability 8.9", [{"extra_args": {}}]),
    Case("A10 + L4", {"extra_args": {"--kv_cache_dtype": "fp8_per_token_head"}}, {}, E, "8.9",
         [{"extra_args": {}}, {"gpus": [1]}]),
    Case("T4", {**FLOAT16, "extra_args": {"kv-cache-dtype": "bfloat16", "seed": 1}}, {}, E, "kv-cache-dtype bfloat16",
         [{"extra_args": {"seed": 1}}]),
    Case("L4", {"extra_args": {"attention-backend": "FLASHMLA"}}, {}, E, "runs on compute capability 9.x, 10.x",
         [{"extra_args": {}}]),
    Case("T4", {**FLOAT16, "extra_args": {"attention-backend": "flash_attn"}}, {}, E, "attention-backend flash_attn",
         [{"extra_args": {}}]),
)  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.gpus} {case.message[:30]}")
def test_what_a_device_cannot_do_is_said_with_what_helps(case: Case) -> None:
    (problem,) = problems(case.gpus, server(**case.keys), replace(MODEL, **case.model))
    assert (problem.where, problem.code, problem.severity) == ("server llm", "plan-gpu", case.severity)
    assert case.message in problem.message
    assert [{change.key: change.value for change in remedy} for remedy in problem.remedies] == case.remedies


@pytest.mark.parametrize(
    ("gpus", "keys", "model"),
    [
        ("T4", FLOAT16, {}),
        ("A10", {}, {}),
        ("T4", {}, {"dtype": "float32", "model_type": "xlm-roberta"}),
        ("L4", {}, {"quantization": "fp8"}),
        ("L4", FP8_CACHE, {}),
        ("H100", {}, {"quantization": "mxfp4"}),
        ("T4 + L4", {**BFLOAT16, "gpus": (1,)}, {}),
        ("H100", {"extra_args": {"attention-backend": "FLASH_ATTN_MLA"}}, {}),
        ("T4", FLOAT16, {"quantization": "a-method-of-tomorrow"}),
        ("T4", {**FLOAT16, "quantization": "mxfp4"}, {}),
    ],
)
def test_what_a_device_can_do_is_not_spoken_of(gpus: str, keys: dict[str, Any], model: dict[str, Any]) -> None:
    assert problems(gpus, server(**keys), replace(MODEL, **model)) == []


def test_without_facts_only_the_declaration_is_judged() -> None:
    assert problems("T4", server(), None) == []
    assert len(problems("T4", server(**BFLOAT16), None)) == 1


def test_a_device_of_unknown_capability_is_not_judged() -> None:
    unknown = [replace(device, compute_capability=None) for device in hypothetical("2xT4").devices("cuda")]
    assert check_device(server(**BFLOAT16), MODEL, unknown, Settings(), FLAGS) == []


def test_main_memory_is_judged_for_what_is_no_matter_of_the_device() -> None:
    devices = Host("lab", "192.0.2.1", (0, 1), 8 << 30).devices("cpu")
    cpu = Settings(backend="cpu")
    assert check_device(server(**BFLOAT16), MODEL, devices, cpu, FLAGS) == []
    (problem,) = check_device(server(**FLOAT16), replace(MODEL, quantization="mxfp4"), devices, cpu, FLAGS)
    assert "bfloat16 only" in problem.message


def test_two_errors_are_removed_together() -> None:
    found = problems("T4", server(**BFLOAT16, **FP8_CACHE))
    together = (Change("llm", "dtype", "float16"), Change("llm", "extra_args", {}))
    assert [problem.remedies for problem in found] == [(together,), (together,)]
    assert all("Declare dtype: float16 and extra_args without kv-cache-dtype" in one.message for one in found)


def test_a_server_that_can_only_sit_on_an_instance_is_told_that_this_is_untried() -> None:
    devices = Host.from_facts("h", "192.0.2.1", host_facts("mig-a100x2")).devices("cuda")
    (problem,) = check_device(server(gpus=(3,)), MODEL, devices, Settings(), FLAGS)
    assert (problem.severity, "MIG instance" in problem.message) == (W, True)
    assert check_device(server(), MODEL, devices, Settings(), FLAGS) == []


def test_instances_are_no_remedy_for_tensor_parallelism() -> None:
    devices = Host.from_facts("h", "192.0.2.1", host_facts("mig-a100x2")).devices("cuda")
    old = replace(devices[0], index=0, name="Tesla T4", compute_capability=(7, 5))
    (problem,) = check_device(server(**BFLOAT16, tensor_parallel_size=2), MODEL, [old, *devices], Settings(), FLAGS)
    assert [remedy[0].key for remedy in problem.remedies] == ["dtype"]


@pytest.mark.parametrize(
    ("kind", "own", "model_type", "capability", "dtype"),
    [
        ("llm", "bfloat16", "qwen2", (8, 0), "bfloat16"),
        ("llm", "bfloat16", "qwen2", (7, 5), "float16"),
        ("llm", "bfloat16", "gemma2", (7, 5), "float32"),
        ("llm", "float16", "qwen2", (7, 5), "float16"),
        ("llm", "float32", "qwen2", (8, 0), "bfloat16"),
        ("embedding", "float32", "xlm-roberta", (8, 0), "float16"),
        ("embedding", "float32", "xlm-roberta", None, "float16"),
        ("embedding", "float32", "gemma3_text", (8, 0), "bfloat16"),
        ("llm", "float16", "gemma2", (8, 0), "bfloat16"),
    ],
)
def test_dtype_auto_is_what_vllm_makes_of_it(
    kind: str, own: str, model_type: str, capability: tuple[int, int] | None, dtype: str
) -> None:
    assert dtype_on(server(kind=kind), replace(MODEL, dtype=own, model_type=model_type), capability) == dtype


def test_every_quantization_of_the_flag_has_its_needs() -> None:
    choices = FLAGS.flags["quantization"].choices
    assert choices is not None
    assert set(methods()) == set(choices)
    assert json.loads(DATA.read_text())["version"] == FLAGS.version
    assert methods()["awq"].capability == (7, 5)
    assert methods()["fp_quant"] == Method((10, 0), ("bfloat16",), deprecated=True)


servers = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["auto", "half", "bfloat16", "float32"]),
        "tensor_parallel_size": st.sampled_from([1, 2]),
        "extra_args": st.fixed_dictionaries(
            {},
            optional={
                "kv-cache-dtype": st.sampled_from(["fp8", "bfloat16", "fp8_per_token_head", "nvfp4"]),
                "attention-backend": st.sampled_from(["FLASH_ATTN", "FLASHMLA", "TRITON_ATTN"]),
            },
        ),
    },
    optional={"quantization": st.sampled_from(sorted(methods()))},
)


@given(servers, st.sampled_from(["2xT4", "T4 + A10 + L4", "2xT4 + 2xH100", "4xL40S", "2xA30 + 2xB200"]))
def test_every_remedy_removes_the_problem_when_it_is_declared(keys: dict[str, Any], gpus: str) -> None:
    for problem in problems(gpus, server(**keys)):
        for remedy in problem.remedies:
            raw = {"name": "llm", "kind": "llm", "model": "lab/model", "port": 8000, **keys}
            raw |= {change.key: change.value for change in remedy}
            (changed,), mistakes = parse([raw], FLAGS)
            assert mistakes == ()
            left = problems(gpus, changed)
            assert problem.message not in {other.message for other in left}
            assert problem.severity == W or not [other for other in left if other.severity == E]
