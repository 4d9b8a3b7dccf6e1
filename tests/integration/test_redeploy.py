"""A declaration that changes, on a deployed host: what cannot start is reported, what is declared no more goes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import requests

from tests.integration.conftest import ROOT, UNITS, LabHost, journals, run

pytestmark = [pytest.mark.integration, pytest.mark.serving]


def test_a_server_that_cannot_start_is_reported_with_vllm_s_own_reason(deployed_host: LabHost, tmp_path: Path) -> None:
    """Batches are declared smaller than the requests at a time: vLLM says so, and so must the run."""
    declared = run("ansible-inventory", "--host", "lab-1").output
    servers = json.loads(declared)["model_servers"]
    broken = [dict(server, copy_from=f"{ROOT}/vllm_fleet/lab/models/trained/{server['name']}") for server in servers]
    broken[0]["extra_args"] = {"max-num-batched-tokens": 8, "max-num-seqs": 16}
    file = tmp_path / "broken.json"
    file.write_text(json.dumps({"model_servers": broken, "model_server_start_tries": 1}))
    done = run("ansible-playbook", "playbooks/serve.yml", "-e", f"@{file}")
    assert done.status != 0
    assert "vllm-llm.service did not start. What it said first:" in done.output
    assert "max_num_batched_tokens (8)" in done.output.split("What it said first:")[1]


def test_one_server_less_and_a_key_of_the_servers_own(deployed_host: LabHost, tmp_path: Path) -> None:
    """A server that is declared no more goes, also from the gateway; the servers' own key is seen nowhere."""
    key = "sk-not-to-be-seen-4711"
    one = {
        "name": "embedding",
        "kind": "embedding",
        "model": "lab/tiny-xlm-roberta-embedding",
        "copy_from": f"{ROOT}/vllm_fleet/lab/models/trained/embedding",
        "served_model_name": "tiny-embedding",
        "dtype": "float16",
        "port": 32805,
    }
    file = tmp_path / "one.json"
    file.write_text(json.dumps({"model_servers": [one], "model_server_api_key": key}))
    done = run("scripts/deploy", "site.yml", "-e", f"@{file}")
    assert done.status == 0, done.output[-4000:] + journals(deployed_host)
    assert key not in done.output
    assert deployed_host.active(UNITS) == ["vllm-embedding.service"]
    assert deployed_host.do("test", "-e", "/etc/systemd/system/vllm-llm.service").status != 0
    assert served_by_gateway() == ["tiny-embedding"]
    # Between gateway and server stands the servers' own key.
    ask = (
        "import urllib.request as u; print(u.urlopen(u.Request('http://127.0.0.1:32805/v1/models', headers={})).status)"
    )
    assert "401: Unauthorized" in deployed_host.do("python3", "-c", ask).output
    with_key = ask.replace("{}", f"{{'Authorization': 'Bearer {key}'}}")
    assert deployed_host.read("python3", "-c", with_key) == "200"
    seen = (
        deployed_host.read("ps", "axwwe") + deployed_host.read("systemctl", "show", UNITS[1]) + journals(deployed_host)
    )
    assert key not in deployed_host.read("ps", "axww")
    assert key not in seen.replace("VLLM_API_KEY=" + key, "")


def served_by_gateway() -> list[str]:
    """Return the models that the gateway lists, as a client with the key and the authority asks it."""
    address = json.loads(run("ansible-inventory", "--host", "lab-1").output)["ansible_host"]
    answer = requests.get(
        f"https://{address}:8443/v1/models",
        headers={"Authorization": f"Bearer {run('scripts/gateway-keys', 'show', 'default').output.strip()}"},
        verify=run("scripts/gateway-keys", "ca").output.strip(),
        timeout=30,
    )
    assert answer.status_code == 200, answer.text
    return [one["id"] for one in answer.json()["data"]]
