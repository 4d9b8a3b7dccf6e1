"""The snippets of docs/clients.md, written for the deployed lab and run as a user would: through the gateway."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.client_environments import client_python
from tests.integration.conftest import run
from vllm_fleet.clients.snippets import snippets

pytestmark = [pytest.mark.integration, pytest.mark.serving]

CAPITAL = "The capital of France is Paris."
# Uses the proxy's configuration as the proxy does, whose own packages are many.
ROUTER = """
import asyncio, os, sys, yaml
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
import litellm
configuration = yaml.safe_load(open(sys.argv[1], encoding="utf-8"))
litellm.ssl_verify = configuration.get("litellm_settings", {}).get("ssl_verify", True)
router = litellm.Router(model_list=configuration["model_list"])
question = "What is the capital of France?"
for one in configuration["model_list"]:
    name = one["model_name"]
    match one["model_info"]["mode"]:
        case "chat":
            messages = [{"role": "user", "content": f"{question} Answer in one short sentence."}]
            print("chat:", router.completion(name, messages, temperature=0).choices[0].message.content)
        case "embedding":
            print("embeddings:", len(router.embedding(name, ["a", "b"]).data))
        case "rerank":
            documents = ["The capital of Brazil is Brasilia.", "The capital of France is Paris."]
            ranking = asyncio.run(router.arerank(name, query=question, documents=documents))
            print("rerank:", documents[ranking.results[0]["index"]])
"""


class Client:
    """Runs snippets where a user has them: with the key in the environment and none of this machine's certificates."""

    def __init__(self, directory: Path, gateway: Any) -> None:
        self.directory = directory
        self._key = gateway.key
        for name, text in snippets(gateway.plan, gateway.plan["keys"][0]["name"], gateway.ca_file).items():
            (directory / name).write_text(text, encoding="utf-8")

    def run(self, *command: str | Path, key: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command among the snippets."""
        environment = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(self.directory),
            "LANG": "C.UTF-8",
            "VLLM_API_KEY": key or self._key,
        }
        return subprocess.run(
            [str(word) for word in command],
            cwd=self.directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def lines(self, *command: str | Path) -> list[str]:
        """Run a command that must succeed; return the lines it printed."""
        done = self.run(*command)
        assert done.returncode == 0, done.stdout + done.stderr
        assert self._key not in done.stdout + done.stderr
        return done.stdout.splitlines()


@pytest.fixture(scope="module")
def client(gateway: Any, tmp_path_factory: pytest.TempPathFactory) -> Client:
    """The snippets for the gateway's first key."""
    return Client(tmp_path_factory.mktemp("clients"), gateway)


@pytest.fixture(scope="module")
def python() -> Path:
    """A Python that has the clients of requirements/clients.lock."""
    return client_python("clients")


def said(lines: list[str], label: str) -> list[str]:
    """What was printed behind a label."""
    return [line.removeprefix(f"{label}: ") for line in lines if line.startswith(f"{label}: ")]


def require_paris_first(lines: list[str]) -> None:
    """Require two ranked documents, the right one first with the higher score."""
    (best, first), (other, _) = (line.split(" ", 1) for line in said(lines, "rerank"))
    assert first == CAPITAL
    assert 1 >= float(best) > float(other) >= 0


def test_curl_gets_right_answers_to_the_guides_requests(client: Client) -> None:
    lines = client.lines("sh", "curl.sh")
    answers = [json.loads(line) for line in lines if line.startswith("{")]
    models, introduction, embeddings, single, batch, ranking = answers
    assert [one["id"] for one in models["data"]]
    assert "language model" in introduction["choices"][0]["message"]["content"]
    events = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: {")]
    assert "".join(event["choices"][0]["delta"].get("content") or "" for event in events) == CAPITAL
    assert "data: [DONE]" in lines
    assert [one["index"] for one in embeddings["data"]] == [0, 1, 2]
    assert single["data"][0]["score"] == pytest.approx(batch["data"][1]["score"], abs=0.01)
    assert batch["data"][1]["score"] > batch["data"][0]["score"]
    assert ranking["results"][0]["document"]["text"] == CAPITAL


def test_openai_chats_streams_calls_a_tool_and_embeds(client: Client, python: Path) -> None:
    lines = client.lines(python, "openai_client.py")
    assert "language model" in said(lines, "chat")[0]
    assert said(lines, "stream") == [CAPITAL]
    (call,) = said(lines, "tool call")
    name, arguments = call.split(" ", 1)
    assert (name, json.loads(arguments)) == ("get_current_weather", {"city": "Paris", "unit": "celsius"})
    assert said(lines, "embeddings")[0].startswith("3 of ")


def test_langchain_chats_streams_calls_a_tool_and_embeds(client: Client, python: Path) -> None:
    lines = client.lines(python, "langchain_client.py")
    assert said(lines, "chat") == said(lines, "stream") == [CAPITAL]
    assert said(lines, "tool call") == ["get_current_weather {'city': 'Paris', 'unit': 'celsius'}"]
    assert said(lines, "embeddings")[0].startswith("3 of ")


def test_litellm_chats_streams_embeds_and_ranks(client: Client, python: Path) -> None:
    lines = client.lines(python, "litellm_client.py")
    assert said(lines, "chat") == said(lines, "stream") == [CAPITAL]
    assert said(lines, "embeddings")[0].startswith("3 of ")
    require_paris_first(lines)


def test_litellm_routes_by_the_proxys_configuration(client: Client, python: Path) -> None:
    modes = {one["model_info"]["mode"] for one in yaml.safe_load(_text(client, "litellm_proxy.yaml"))["model_list"]}
    assert modes == {"chat", "embedding", "rerank"}
    lines = client.lines(python, "-c", ROUTER, "litellm_proxy.yaml")
    assert said(lines, "chat") == said(lines, "rerank") == [CAPITAL]
    assert said(lines, "embeddings") == ["2"]


def test_coheres_client_ranks_paris_first(client: Client, python: Path) -> None:
    require_paris_first(client.lines(python, "cohere_client.py"))


def test_a_request_in_jinas_form_ranks_paris_first(client: Client, python: Path) -> None:
    require_paris_first(client.lines(python, "jina_client.py"))


def test_a_wrong_key_ends_a_snippet_with_401(client: Client, python: Path) -> None:
    shell, openai = (
        client.run("sh", "curl.sh", key="not-a-key"),
        client.run(python, "openai_client.py", key="not-a-key"),
    )
    assert shell.returncode != 0
    assert "401" in shell.stderr
    assert "error" in json.loads(shell.stdout.splitlines()[1])
    assert openai.returncode != 0
    assert "AuthenticationError" in openai.stderr


def test_the_certificate_is_verified(client: Client, python: Path, gateway: Any) -> None:
    """With the CA's line taken out, every client refuses to connect: the snippets do not switch verification off."""
    if gateway.ca_file is None:
        pytest.skip("this gateway's certificate is of no authority of its own")
    text = _text(client, "openai_client.py").replace("    http_client=HTTP_CLIENT,\n", "    max_retries=0,\n")
    done = client.run(python, "-c", text)
    assert done.returncode != 0
    assert "CERTIFICATE_VERIFY_FAILED" in done.stderr


def test_the_playbook_writes_the_same_files_and_changes_nothing_again(gateway: Any, tmp_path: Path) -> None:
    playbook = ("ansible-playbook", "playbooks/clients.yml", "-e", f"clients_output_directory={tmp_path}/new")
    foretold = run(*playbook, "--check")
    assert foretold.status == 0, foretold.output[-4000:]
    assert list(tmp_path.iterdir()) == []
    done = run(*playbook)
    assert done.status == 0, done.output[-4000:]
    assert _changed(done.output) == _changed(foretold.output) > 0
    host = gateway.plan["host"]
    written = {path.name: path.read_text(encoding="utf-8") for path in (tmp_path / "new" / host).iterdir()}
    ca_file = gateway.ca_file and os.path.normpath(gateway.ca_file)
    assert written == snippets(gateway.plan, gateway.plan["keys"][0]["name"], ca_file, "inventory/lab")
    assert os.access(tmp_path / "new" / host / "curl.sh", os.X_OK)
    again = run(*playbook)
    assert (again.status, _changed(again.output)) == (0, 0), again.output[-4000:]


def _text(client: Client, name: str) -> str:
    return (client.directory / name).read_text(encoding="utf-8")


def _changed(output: str) -> int:
    """How many tasks changed something, by the play's recap."""
    return sum(int(line.split("changed=")[1].split()[0]) for line in output.splitlines() if "changed=" in line)
