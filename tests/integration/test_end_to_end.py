"""The main job on a lab host built from nothing: real systemd, real SSH, real vLLM. The tests run in this order."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import UNITS, Done, LabHost, journals, make_host, run, wait_until

pytestmark = [pytest.mark.integration, pytest.mark.serving]


def recap(output: str) -> dict[str, int]:
    """Read Ansible's recap of lab-1."""
    line = next(line for line in output.splitlines() if line.startswith("lab-1 "))
    return {key: int(value) for key, value in re.findall(r"(\w+)=(\d+)", line)}


def all_active(host: LabHost) -> bool:
    return len(host.active(UNITS)) == len(UNITS)


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


def test_a_second_run_changes_nothing_and_is_quick(deployed: Done, lab_host: LabHost) -> None:
    pids = [main_pid(lab_host, unit) for unit in UNITS]
    began = time.monotonic()
    done = run("make", "quickstart")
    spent = time.monotonic() - began
    assert done.status == 0, done.output[-4000:]
    table = re.search(r"^lab-1 +\d+ +(\d+) ", done.output, re.MULTILINE)
    assert table is not None
    assert table[1] == "0", done.output[-4000:]
    assert [main_pid(lab_host, unit) for unit in UNITS] == pids
    assert spent < 90


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


def test_what_vllm_reports_of_its_memory_is_kept_for_the_next_plan(deployed: Done, lab_host: LabHost) -> None:
    record = json.loads(lab_host.read("cat", "/var/lib/vllm-fleet/measured/llm.json"))
    # 1 GiB for each of two ranks, in blocks of 128 tokens; tests/unit/plan/memory expects the same of the plan.
    assert (record["num_gpu_blocks"], record["kv_cache_tokens"]) == (16_384, 2_097_152)
    assert record["host_bytes"] > 2 << 30
    encoder = json.loads(lab_host.read("cat", "/var/lib/vllm-fleet/measured/rerank.json"))
    assert encoder["kv_cache_tokens"] is None


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
    done = run("scripts/verify", "--json")
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
