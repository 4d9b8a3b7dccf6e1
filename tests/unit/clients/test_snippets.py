"""Snippets for clients: they can be run, say what is deployed and nothing else, and hold no key."""

from __future__ import annotations

import ast
import json
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from vllm_fleet.clients.snippets import CLIENTS, _quoted, snippets
from vllm_fleet.errors import FleetError
from vllm_fleet.gateway.result import GatewayPlan, Key, Served

GATEWAY = "https://gpu-1.example.org:8443"
CA_FILE = "/home/somebody/vllm-fleet/ca.pem"
# The hash of a key, as the gateway's maps hold it.
HASH = "5E884898DA28047151D0E56F8DC6292773603D0D6AABBDD62A11EF721D1542D8"
LLM = Served(
    name="llm",
    kind="llm",
    model="qwen2.5-3b-instruct",
    context_length=32768,
    tool_calls=True,
    keep_alive_seconds=5,
    url=f"{GATEWAY}/servers/llm",
    instances=(),
)
EMBEDDING = replace(
    LLM, name="embedding", kind="embedding", model="bge-m3", tool_calls=False, url=f"{GATEWAY}/servers/embedding"
)
RERANK = replace(EMBEDDING, name="rerank", kind="rerank", model="bge-reranker-v2-m3", url=f"{GATEWAY}/servers/rerank")
ALL = (LLM, EMBEDDING, RERANK)
DEFAULT = Key("default", 0, 64, None)
ODD_NAMES = (
    "org/model-1.5_b",
    'it\'s a "model"',
    "$(reboot)`reboot` $HOME \\n %s {x} {{ x }}",
    "模型 🙂",
    "JSON",
    "two\nlines\u2028three\x7f",
)


def plan(servers: Sequence[Served] = ALL, keys: Sequence[Key] = (DEFAULT,)) -> dict[str, Any]:
    """A gateway's plan."""
    maps = {"keys.map": {HASH: "default"}}
    return GatewayPlan("gpu-1", GATEWAY, "own_ca", tuple(servers), tuple(keys), maps).as_dict()


def python_values(text: str) -> set[object]:
    """All constants of a Python file."""
    return {node.value for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Constant)}


def bodies(shell: str) -> list[dict[str, Any]]:
    """The JSON bodies that a shell script sends."""
    return [json.loads(rest.split("\nJSON\n")[0]) for rest in shell.split("<<'JSON'\n")[1:]]


def require_runnable(files: dict[str, str]) -> None:
    """Require that each file is right by its language."""
    for name, text in files.items():
        if name.endswith(".py"):
            compile(text, name, "exec")
        elif name.endswith(".sh"):
            checked = subprocess.run(["sh", "-n"], input=text, capture_output=True, text=True, check=False)
            assert (checked.returncode, checked.stderr) == (0, "")
            bodies(text)
        elif name.endswith(".yaml"):
            assert yaml.safe_load(text)["model_list"]


@pytest.mark.parametrize("ca_file", [None, CA_FILE, "/a path/with 'quotes'/and \"more\"/$HOME.pem"])
@pytest.mark.parametrize("kinds", [kinds for kinds in product((False, True), repeat=3) if any(kinds)])
def test_every_snippet_is_right_by_its_language(kinds: tuple[bool, ...], ca_file: str | None) -> None:
    servers = [server for server, there in zip(ALL, kinds, strict=True) if there]
    require_runnable(snippets(plan(servers), "default", ca_file))
    require_runnable(snippets(plan([replace(server, tool_calls=False) for server in servers]), "default", ca_file))


@pytest.mark.parametrize("server", ALL, ids=lambda server: str(server.kind))
@pytest.mark.parametrize("model", ODD_NAMES)
def test_odd_model_names_reach_the_server_as_they_are(server: Served, model: str) -> None:
    files = snippets(plan([replace(server, model=model)]), "default", CA_FILE)
    require_runnable(files)
    assert {body["model"] for body in bodies(files["curl.sh"])} == {model}
    assert [one["model_name"] for one in yaml.safe_load(files["litellm_proxy.yaml"])["model_list"]] == [model]
    for name, text in files.items():
        if name.endswith(".py"):
            assert {model, f"hosted_vllm/{model}"} & python_values(text), name


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_quoted_text_is_the_same_in_json_python_and_yaml(text: str) -> None:
    quoted = _quoted(text)
    assert json.loads(quoted) == ast.literal_eval(quoted) == yaml.safe_load(quoted) == text
    assert "\n" not in quoted


def test_no_snippet_holds_a_key_or_its_hash() -> None:
    for name, text in snippets(plan(), "default", CA_FILE).items():
        assert HASH.lower() not in text.lower(), name
        assert "VLLM_API_KEY" in text, name
        assert "scripts/gateway-keys show default" in text, name


def test_the_command_that_shows_the_key_names_the_inventory() -> None:
    for name, text in snippets(plan(), "default", CA_FILE, "inventory/my site").items():
        assert "$(scripts/gateway-keys -i 'inventory/my site' show default)" in text, name


def test_curl_is_not_given_the_key_as_an_argument() -> None:
    shell = snippets(plan(), "default", CA_FILE)["curl.sh"]
    assert [line for line in shell.splitlines() if "$VLLM_API_KEY" in line] == ["Authorization: Bearer $VLLM_API_KEY"]


@pytest.mark.parametrize("server", ALL, ids=lambda server: str(server.kind))
def test_only_clients_of_what_is_deployed_appear(server: Served) -> None:
    files = snippets(plan([server]), "default", CA_FILE)
    assert set(files) == {name for name, kinds in CLIENTS.items() if server.kind in kinds}
    words = {"llm": "chat", "embedding": "embedding", "rerank": "rerank"}
    for name, text in files.items():
        for kind, word in words.items():
            # A comment on LiteLLM's health check speaks of chats.
            if kind != server.kind and name not in ("README.md", "litellm_proxy.yaml"):
                assert word not in text.lower(), f"{name} speaks of {word}"
    listed = {line.split("`")[1] for line in files["README.md"].splitlines() if line.startswith("| `")}
    assert listed == set(files) - {"README.md"}


def test_a_gateway_without_servers_gets_no_snippets() -> None:
    assert snippets(plan([]), "default", None) == {}


def test_a_tool_is_called_only_where_the_server_calls_tools() -> None:
    with_tools = snippets(plan(), "default", None)
    without = snippets(plan([replace(LLM, tool_calls=False)]), "default", None)
    for name in ("openai_client.py", "langchain_client.py"):
        assert "get_current_weather" in with_tools[name]
        assert "get_current_weather" not in without[name]


def test_a_key_gets_snippets_of_its_own_servers_only() -> None:
    keys = (DEFAULT, Key("office", 60, 8, ("rerank",)))
    files = snippets(plan(keys=keys), "office", None)
    assert set(files) == set(snippets(plan([RERANK]), "default", None))
    assert "scripts/gateway-keys show office" in files["curl.sh"]


def test_an_unknown_key_is_refused_with_the_known_ones() -> None:
    keys = (DEFAULT, Key("office", 60, 8, None))
    with pytest.raises(FleetError, match="gpu-1 has no key 'offise'; it has: default, office"):
        snippets(plan(keys=keys), "offise", None)


def test_one_server_of_a_kind_is_reached_by_the_gateways_own_url() -> None:
    for name, text in snippets(plan(), "default", None).items():
        assert "/servers/" not in text, name
        assert GATEWAY in text, name


def test_several_servers_of_a_kind_are_reached_by_their_own_urls() -> None:
    """There the body need not be looked into, so it may be of any size."""
    second = replace(LLM, name="coder", model="qwen2.5-coder", url=f"{GATEWAY}/servers/coder")
    files = snippets(plan([*ALL, second]), "default", None)
    require_runnable(files)
    assert {f"{GATEWAY}/servers/llm/v1", f"{GATEWAY}/servers/coder/v1", f"{GATEWAY}/v1"} <= python_values(
        files["openai_client.py"]
    )
    assert "/servers/" not in files["cohere_client.py"]


def test_a_certificate_authority_is_named_only_where_there_is_one_of_its_own() -> None:
    for name, text in snippets(plan(), "default", CA_FILE).items():
        assert CA_FILE in text, name
    for name, text in snippets(plan(), "default", None).items():
        for word in ("ca_file", "cacert", "verify", "http_client", "authority"):
            assert word not in text.lower(), name


def test_every_client_waits_ten_minutes_for_an_answer() -> None:
    for name, text in snippets(plan(), "default", CA_FILE).items():
        if name != "README.md":
            assert "600" in text, name
