"""The main job on a lab host built from nothing: real systemd, real SSH, real vLLM. The tests run in this order."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.integration.conftest import ROOT, Done, LabHost, make_host, run, wait_until

pytestmark = [pytest.mark.integration, pytest.mark.serving]

UNITS = ("vllm-llm.service", "vllm-embedding.service", "vllm-rerank.service")


def recap(output: str) -> dict[str, int]:
    """Read Ansible's recap of lab-1."""
    line = next(line for line in output.splitlines() if line.startswith("lab-1 "))
    return {key: int(value) for key, value in re.findall(r"(\w+)=(\d+)", line)}


def all_active(host: LabHost) -> bool:
    return len(host.active(UNITS)) == len(UNITS)


def journals(host: LabHost) -> str:
    return host.do("journalctl", "--no-pager", "-n", "120", *(f"--unit={unit}" for unit in UNITS)).output


def main_pid(host: LabHost, unit: str) -> int:
    return int(host.read("systemctl", "show", "--value", "--property=MainPID", unit))


@pytest.fixture(scope="module")
def dry_run(lab_host: LabHost) -> tuple[Done, str, str]:
    """The very first thing a host sees: --check --diff, with the host's state before and after."""
    make_host()  # others may have been here before
    lab_host.read("mkdir", "-p", "/var/lib/vllm-fleet")
    lab_host.read("rmdir", "/var/lib/vllm-fleet")
    before = snapshot_of_fresh(lab_host)
    done = run("ansible-playbook", "site.yml", "--check", "--diff")
    return done, before, snapshot_of_fresh(lab_host)


def snapshot_of_fresh(host: LabHost) -> str:
    files = host.read("find", "/etc", "/opt", "/usr/local", "/home", "/var/lib", "-xdev", "-printf", r"%p %s\n")
    return "\n".join([*sorted(files.splitlines()), host.read("dpkg", "-l")])


@pytest.fixture(scope="module")
def deployed(lab_host: LabHost, dry_run: tuple[Done, str, str]) -> Done:
    """The README's first command, on a host that has seen nothing but --check."""
    done = run("make", "quickstart", timeout=1500)
    assert done.status == 0, done.output[-6000:] + journals(lab_host)
    return done


def test_check_mode_on_a_fresh_host_does_not_fail(dry_run: tuple[Done, str, str]) -> None:
    done, _, _ = dry_run
    assert done.status == 0, done.output[-4000:]
    assert recap(done.output)["changed"] > 0


def test_check_mode_changes_nothing(dry_run: tuple[Done, str, str]) -> None:
    _, before, after = dry_run
    assert after.splitlines() == before.splitlines()


def test_check_mode_shows_the_units_that_will_be_written(dry_run: tuple[Done, str, str]) -> None:
    done, _, _ = dry_run
    for unit in UNITS:
        assert f"/etc/systemd/system/{unit}" in done.output
    assert "--enable-auto-tool-choice --tool-call-parser hermes" in done.output


def test_quickstart_ends_with_three_proved_servers(deployed: Done, lab_host: LabHost) -> None:
    assert lab_host.active(UNITS) == list(UNITS)
    for unit in UNITS:
        assert unit.removesuffix(".service") in deployed.output


def test_check_mode_announced_every_file_that_quickstart_wrote(
    dry_run: tuple[Done, str, str], deployed: Done, lab_host: LabHost
) -> None:
    done, _, _ = dry_run
    written = ("find", "/etc/systemd/system", "/opt/vllm-fleet/libexec", "-newer", "/etc/hostname", "-type", "f")
    for path in lab_host.read(*written).split():
        assert Path(path).name in done.output, f"{path} was written, --check had not said so"


def test_status_tells_what_is_served_and_how(deployed: Done, lab_host: LabHost) -> None:
    text = lab_host.do("systemctl", "status", "--no-pager", "--full", "vllm-llm").output
    assert 'Status: "serving tiny-qwen2, float16, tensor parallel 2, port 32804"' in text
    unit = lab_host.read("systemctl", "cat", "vllm-llm")
    assert "--dtype float16 --tensor-parallel-size 2 --enable-auto-tool-choice --tool-call-parser hermes" in unit


def test_a_second_run_changes_nothing(deployed: Done, lab_host: LabHost) -> None:
    pids = [main_pid(lab_host, unit) for unit in UNITS]
    done = run("ansible-playbook", "site.yml")
    assert done.status == 0, done.output[-4000:]
    assert recap(done.output)["changed"] == 0
    assert [main_pid(lab_host, unit) for unit in UNITS] == pids


def test_the_plan_tells_what_a_run_would_do_to_the_servers_and_why(deployed: Done) -> None:
    def differences(*options: str) -> dict[str, dict[str, Any]]:
        done = run("scripts/plan", "--json", "-e", "serving_plan_ask_hub=false", *options)
        assert done.status == 0, done.output
        (host,) = json.loads(done.output)["hosts"]
        return {one["server"]: one for one in host["differences"]}

    assert {one["effect"] for one in differences().values()} == {"keeps running"}
    other = differences("-e", '{"model_server_drain_seconds": 45}')
    assert {one["effect"] for one in other.values()} == {"restarts"}
    assert other["llm"]["changes"] == [{"what": "--shutdown-timeout", "now": "30", "planned": "45"}]


def test_check_mode_on_a_deployed_host_announces_nothing(deployed: Done) -> None:
    done = run("ansible-playbook", "site.yml", "--check", "--diff")
    assert done.status == 0, done.output[-4000:]
    assert recap(done.output)["changed"] == 0


def test_quickstart_on_a_deployed_host_is_quick(deployed: Done) -> None:
    began = time.monotonic()
    done = run("make", "quickstart")
    assert done.status == 0, done.output[-4000:]
    assert time.monotonic() - began < 90


def test_what_vllm_reports_of_its_memory_is_kept_for_the_next_plan(deployed: Done, lab_host: LabHost) -> None:
    record = json.loads(lab_host.read("cat", "/var/lib/vllm-fleet/measured/llm.json"))
    # 1 GiB for each of two ranks, in blocks of 128 tokens; tests/unit/plan/memory expects the same of the plan.
    assert (record["num_gpu_blocks"], record["kv_cache_tokens"]) == (16_384, 2_097_152)
    assert record["host_bytes"] > 2 << 30
    encoder = json.loads(lab_host.read("cat", "/var/lib/vllm-fleet/measured/rerank.json"))
    assert encoder["kv_cache_tokens"] is None


def test_the_verification_passes_by_itself(deployed: Done) -> None:
    done = run("scripts/verify", "--json")
    assert done.status == 0, done.output[-4000:]


def test_the_post_deploy_suite_passes(deployed: Done) -> None:
    done = run("scripts/python", "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/post_deploy")
    assert done.status == 0, done.output[-4000:]
    skipped = [line for line in done.output.splitlines() if line.startswith("SKIPPED")]
    assert all("no API key is declared" in line for line in skipped), skipped


def test_service_files_and_secrets_are_not_for_everybody(deployed: Done, lab_host: LabHost) -> None:
    assert lab_host.read("stat", "-c", "%a %U", "/etc/vllm-fleet") == "700 root"
    for unit in UNITS:
        exposure = float(lab_host.do("systemd-analyze", "security", "--no-pager", unit).output.split()[-3])
        assert exposure <= 3.0, f"{unit}: exposure {exposure}"


def test_a_reboot_brings_all_three_back_one_after_the_other(deployed: Done, lab_host: LabHost) -> None:
    rebooted = run("scripts/lab", "reboot", "lab-1")
    assert rebooted.status == 0, rebooted.output
    together: list[list[str]] = []

    def back() -> bool:
        together.append(lab_host.loading(UNITS))
        return all_active(lab_host)

    wait_until(back, 600)
    assert max(together, key=len) != []
    assert [lines for lines in together if len(lines) > 1] == []
    done = run("scripts/verify")
    assert done.status == 0, done.output[-4000:] + journals(lab_host)


def test_a_declaration_full_of_mistakes_is_refused_with_every_one_named(
    deployed: Done, lab_host: LabHost, tmp_path: Path
) -> None:
    mistakes = {
        "model_servers": [
            {"name": "llm", "kind": "chat", "model": "a/b", "port": 32804, "dtype": "fp16", "colour": "red"},
            {"name": "llm", "kind": "rerank", "port": 32804, "extra_args": {"max-num-seq": 4}},
        ],
        "model_server_bind_adress": "0.0.0.0",
    }
    file = tmp_path / "mistakes.json"
    file.write_text(json.dumps(mistakes))
    before = lab_host.read("systemctl", "show", "--property=ExecMainStartTimestamp", *UNITS)
    done = run("ansible-playbook", "site.yml", "-e", f"@{file}")
    assert done.status != 0
    for sentence in (
        "server llm: unknown key 'colour'",
        "server llm: kind: expected one of llm, embedding, rerank, found 'chat'",
        "server llm: dtype: expected one of auto, half, float16",
        "server llm: model is missing",
        "has no flag --max-num-seq; did you mean max-num-seqs?",
        "name llm is declared 2 times",
        "port 32804 is declared 2 times",
        "variable model_server_bind_adress: nothing reads it; did you mean model_server_bind_address?",
    ):
        assert sentence in done.output, sentence
    assert recap(done.output)["changed"] == 0
    assert lab_host.read("systemctl", "show", "--property=ExecMainStartTimestamp", *UNITS) == before


def test_a_server_that_cannot_start_is_reported_with_vllm_s_own_reason(deployed: Done, tmp_path: Path) -> None:
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


def test_one_server_less_and_a_key_of_the_servers_own(deployed: Done, lab_host: LabHost, tmp_path: Path) -> None:
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
    assert done.status == 0, done.output[-4000:] + journals(lab_host)
    assert key not in done.output
    assert lab_host.active(UNITS) == ["vllm-embedding.service"]
    assert lab_host.do("test", "-e", "/etc/systemd/system/vllm-llm.service").status != 0
    assert served_by_gateway() == ["tiny-embedding"]
    # Between gateway and server stands the servers' own key.
    ask = (
        "import urllib.request as u; print(u.urlopen(u.Request('http://127.0.0.1:32805/v1/models', headers={})).status)"
    )
    assert "401: Unauthorized" in lab_host.do("python3", "-c", ask).output
    with_key = ask.replace("{}", f"{{'Authorization': 'Bearer {key}'}}")
    assert lab_host.read("python3", "-c", with_key) == "200"
    seen = lab_host.read("ps", "axwwe") + lab_host.read("systemctl", "show", UNITS[1]) + journals(lab_host)
    assert key not in lab_host.read("ps", "axww")
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
