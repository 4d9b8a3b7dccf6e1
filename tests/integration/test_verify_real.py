"""The verification against real vLLM that is misconfigured: it fails where it should.

That it passes healthy servers, again and again, is seen in test_end_to_end.py. What a real server cannot be made to do
wrong is tried with stubs: see tests/broken_servers.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
import requests

from tests.integration.conftest import LabHost, run
from vllm_fleet.verify.endpoint import GATEWAY, Endpoint, parse_endpoints
from vllm_fleet.verify.questions import load_questions
from vllm_fleet.verify.report import explanation
from vllm_fleet.verify.run import verify_server

pytestmark = [pytest.mark.integration, pytest.mark.serving]

QUESTIONS = load_questions()
MODELS = "/var/lib/vllm-fleet/models"
BIN = "/opt/vllm-fleet/current/bin"
PORT = 33001
READY_SECONDS = 400
KEY = "key-of-the-wrong-server"
# A chat template that knows nothing of roles, turns or tools.
FOREIGN_TEMPLATE = "{% for message in messages %}{{ message.content }}\n{% endfor %}"


@pytest.fixture(scope="module")
def deployed(deployed_host: LabHost, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Endpoint]:
    """The endpoints of a deployed lab, by kind."""
    file = tmp_path_factory.mktemp("endpoints") / "endpoints.json"
    done = run("ansible-playbook", "playbooks/endpoints.yml", "-e", f"endpoints_file={file}")
    assert done.status == 0, done.output[-4000:]
    return {one.kind: one for one in parse_endpoints(file.read_text(encoding="utf-8"), str(file))}


@contextlib.contextmanager
def wrong_server(host: LabHost, declared: Endpoint, model: str, *flags: str, key: str = "") -> Iterator[Endpoint]:
    """Start vLLM otherwise than it is declared, on a port of its own that is open, and give its endpoint."""
    environment = {
        "PATH": f"{BIN}:/usr/bin:/bin",
        "HOME": "/var/cache/wrong-server",
        "VLLM_CACHE_ROOT": "/var/cache/wrong-server/vllm",
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "0,1",
        **({"VLLM_API_KEY": key} if key else {}),
    }
    host.read(
        *("systemd-run", "--collect", "--quiet", "--unit=wrong-server", "--uid=vllm", "--gid=vllm"),
        *("-p", "CacheDirectory=wrong-server"),
        *(f"--setenv={name}={value}" for name, value in environment.items()),
        *(f"{BIN}/vllm", "serve", model, "--served-model-name", declared.model, "--dtype", "float16"),
        *("--host", "0.0.0.0", "--port", str(PORT), "--enforce-eager", *flags),
    )
    try:
        address = f"http://{declared.address[0]}:{PORT}"
        endpoint = replace(declared, base_url=address, unit="wrong-server.service", gateway=None, ca_file=None)
        _wait_until_ready(host, endpoint)
        yield replace(endpoint, api_key=key or None)
    finally:
        host.do("systemctl", "stop", "wrong-server.service")


def _wait_until_ready(host: LabHost, endpoint: Endpoint) -> None:
    began = time.monotonic()
    while time.monotonic() - began < READY_SECONDS:
        assert host.active(["wrong-server.service"]), host.do("journalctl", "-n", "60", "--unit=wrong-server").output
        with contextlib.suppress(requests.RequestException):
            if requests.get(f"{endpoint.base_url}/health", timeout=5).ok:
                return
        time.sleep(1)
    pytest.fail(f"not ready in {READY_SECONDS} s")


def copy_of(host: LabHost, model: str, name: str) -> str:
    """Copy a model on the host, to be changed."""
    copy = f"/var/lib/{name}"
    host.read("rm", "-rf", copy)
    host.read("cp", "-r", f"{MODELS}/{model}", copy)
    return copy


def failures(endpoint: Endpoint) -> dict[str, str]:
    """The failed checks with what they say."""
    result = verify_server(endpoint, QUESTIONS)
    return {one.check: "\n".join(explanation(one)) for one in result.failures}


def require(found: Mapping[str, str], words: str, *patterns: str) -> None:
    """Require that checks of each of these patterns failed, no others, and that one says these words."""
    assert {pattern for pattern in patterns for check in found if fnmatchcase(check, pattern)} == set(patterns), found
    assert [check for check in found if not any(fnmatchcase(check, pattern) for pattern in patterns)] == [], found
    assert any(words in text for text in found.values()), found


def test_the_playbook_asks_own_questions_and_leaves_two_reports(
    deployed: Mapping[str, Endpoint], tmp_path: Path
) -> None:
    own = tmp_path / "questions.yml"
    own.write_text("rerank: {ranking: [{id: boiling_water, skip: it is cold here}]}")
    reports = [tmp_path / f"verification.{ending}" for ending in ("json", "html")]
    variables = ("-e", f"verification_questions={own}", "-e", f"verification_directory={tmp_path}")
    done = run("ansible-playbook", "playbooks/verify.yml", *variables)
    assert done.status == 0, done.output[-4000:]
    assert all("it is cold here" in file.read_text(encoding="utf-8") for file in reports)


@pytest.mark.parametrize(
    ("kind", "really"),
    [("rerank", "embedding"), ("embedding", "rerank"), ("llm", "embedding"), ("embedding", "llm"), ("rerank", "llm")],
)
def test_a_server_in_another_ones_place_is_recognised(deployed: Mapping[str, Endpoint], kind: str, really: str) -> None:
    there = deployed[really]
    endpoint = replace(deployed[kind], base_url=there.base_url, model=there.model, max_model_len=there.max_model_len)
    require(failures(endpoint), f"a server of kind {kind}", "kind")


def test_another_served_name_is_recognised(deployed: Mapping[str, Endpoint]) -> None:
    require(failures(replace(deployed["llm"], model="qwen2.5-3b-instruct")), "tiny-qwen2", "served_name")


def test_a_key_that_the_gateway_does_not_know_is_recognised(deployed: Mapping[str, Endpoint]) -> None:
    require(failures(replace(deployed["rerank"], api_key=KEY)), "not one of the gateway's", "reachable")
    require(failures(replace(deployed[GATEWAY], api_key=KEY)), "not one of the gateway's", "reachable")


def test_a_port_that_is_open_beside_the_gateway_is_recognised(deployed: Mapping[str, Endpoint]) -> None:
    gateway = deployed[GATEWAY]
    sshd = replace(gateway.instances[0], port=22)
    found = failures(replace(gateway, instances=(sshd, *gateway.instances[1:])))
    require(found, f"{sshd.address}:22 (llm on lab-1) takes connections", "server_ports_shut")


def test_without_a_tool_parser_with_a_key_and_shorter(deployed_host: LabHost, deployed: Mapping[str, Endpoint]) -> None:
    """One server, three declarations that it does not keep, each in one way."""
    declared = deployed["llm"]
    model = f"{MODELS}/lab--tiny-qwen2"
    with wrong_server(deployed_host, declared, model, "--max-model-len", "1024", key=KEY) as endpoint:
        patterns = ("calls_tool_*", "streams_tool_call_*", "dify_reads_tool_calls")
        require(failures(replace(endpoint, max_model_len=1024)), "tool", *patterns)
        require(failures(replace(endpoint, tool_calls=False)), "max_model_len 2048", "model_length")
        require(failures(replace(endpoint, api_key="another-key")), "API key", "reachable")
        assert failures(replace(endpoint, max_model_len=1024, tool_calls=False)) == {}


def test_another_models_chat_template_and_a_key_that_is_ignored(
    deployed_host: LabHost, deployed: Mapping[str, Endpoint]
) -> None:
    template = ("--chat-template", FOREIGN_TEMPLATE)
    declared = replace(deployed["llm"], max_model_len=None, tool_calls=False)
    with wrong_server(deployed_host, declared, f"{MODELS}/lab--tiny-qwen2", *template) as endpoint:
        require(failures(endpoint), "a wrong chat template", "answers_*")
        keyed = replace(endpoint, api_key=KEY)
        require(failures(keyed), "HTTP 200 without a key", "answers_*", "key_required")


def test_the_end_ids_lost_in_a_copy(deployed_host: LabHost, deployed: Mapping[str, Endpoint]) -> None:
    """generation_config.json is missing, and the other files name only the other end id."""
    copy = copy_of(deployed_host, "lab--tiny-qwen2", "wrong-end")
    deployed_host.read("rm", f"{copy}/generation_config.json")
    deployed_host.read("sed", "-i", 's/"eos_token_id": 1/"eos_token_id": 0/', f"{copy}/config.json")
    deployed_host.read(
        "sed", "-i", 's/"eos_token": "<|im_end|>"/"eos_token": "<|endoftext|>"/', f"{copy}/tokenizer_config.json"
    )
    declared = replace(deployed["llm"], max_model_len=None, tool_calls=False)
    with wrong_server(deployed_host, declared, copy) as endpoint:
        require(failures(endpoint), "generation_config.json", "answers_*")


def test_vectors_that_are_not_normalised(deployed_host: LabHost, deployed: Mapping[str, Endpoint]) -> None:
    flags = ("--runner", "pooling", "--pooler-config", '{"use_activation": false}')
    model = f"{MODELS}/lab--tiny-xlm-roberta-embedding"
    with wrong_server(deployed_host, deployed["embedding"], model, *flags) as endpoint:
        require(failures(endpoint), "vectors of length 1", "vectors_unit_norm")


def test_the_tokenizer_of_another_model(deployed_host: LabHost, deployed: Mapping[str, Endpoint]) -> None:
    flags = ("--runner", "pooling", "--tokenizer", f"{MODELS}/lab--tiny-xlm-roberta-reranker")
    model = f"{MODELS}/lab--tiny-xlm-roberta-embedding"
    with wrong_server(deployed_host, deployed["embedding"], model, *flags) as endpoint:
        require(failures(endpoint), "tokenizer is wrong", "closer_*")


def test_a_reranker_without_its_weights(deployed_host: LabHost, deployed: Mapping[str, Endpoint]) -> None:
    flags = ("--runner", "pooling", "--load-format", "dummy")
    model = f"{MODELS}/lab--tiny-xlm-roberta-reranker"
    with wrong_server(deployed_host, deployed["rerank"], model, *flags) as endpoint:
        require(failures(endpoint), "another model is behind the name", "ranks_*", "score_batch")
