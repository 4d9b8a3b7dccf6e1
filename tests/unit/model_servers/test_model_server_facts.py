"""What runs is read from the running process, and from the unit where nothing runs."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest

from tests.load import ROOT
from tests.unit.model_servers.model_server_host import ARGV, ENVIRONMENT, UNIT, VLLM, WRAPPER, build, process, shown
from vllm_fleet.units import RESERVED_NAMES, quote_argument, server_units

from ansible.module_utils.gpu_host.source import Source  # isort: skip
from ansible.module_utils.model_servers import units  # isort: skip
from ansible.module_utils.model_servers.records import read_record  # isort: skip

SHOW = f"env TZ=UTC LC_ALL=C systemctl show --property={units.PROPERTIES} "
LLM = "vllm-llm.service"
RUNNING = process(2297, LLM, words=[*WRAPPER, "--", VLLM, *ARGV], environment=ENVIRONMENT)
SHIPPED = [
    *(ROOT / "plugins/module_utils/model_servers").glob("*.py"),
    *(ROOT / "plugins/modules").glob("model_server_*.py"),
]


def read(root: Path, show: str, files: dict[str, str]) -> Any:
    units_shown = {SHOW + LLM: show}
    return units.read_units(Source(str(build(root, units_shown, {f"/etc/systemd/system/{LLM}": UNIT, **files}))))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_what_runs_on_hosts_is_python_3_8(path: Path) -> None:
    ast.parse(path.read_text(), feature_version=(3, 8))


def test_a_running_server_is_what_its_process_was_started_with(tmp_path: Path) -> None:
    found = read(tmp_path, shown(LLM), RUNNING)["llm"]
    assert found["argv"] == ARGV
    assert found["env"] == {"HF_HUB_OFFLINE": "1", "VLLM_CPU_OMP_THREADS_BIND": "0|1"}
    assert found["probe"] == {"address": "127.0.0.1", "port": "32804"}
    assert (found["active"], found["since"], found["release"]) == ("active", 1795709558, "0.32.0-cpu-d9790b1b")
    assert (found["gpus"], found["visible"], found["share"]) == ([], [], None)


def test_a_server_that_does_not_run_is_what_its_unit_says(tmp_path: Path) -> None:
    found = read(tmp_path, shown(LLM, "failed", pid=0), {})["llm"]
    assert found["argv"] == [
        "serve",
        "/models/100%/$HOME",
        "--hf-overrides",
        '{"a b": 1}',
        "--gpu-memory-utilization",
        "0.7",
    ]
    assert found["env"] == {"CUDA_VISIBLE_DEVICES": "1,0", "GREETING": 'say "hi"'}
    assert (found["active"], found["since"], found["gpus"], found["share"]) == ("failed", None, [1, 0], 0.7)


def test_words_come_back_from_a_unit_as_the_template_quoted_them() -> None:
    words = ["serve", 'a "b" c', "100%", "$HOME", "back\\slash", "new\nline", "tab\t", "{}", "", "x=y z"]
    text = f"ExecStart={' '.join(map(quote_argument, words))}\n"
    assert units.on_disk(text)[0] == words


def test_mig_devices_have_names_and_no_index(tmp_path: Path) -> None:
    mig = process(2297, LLM, words=[*WRAPPER, "--", VLLM, *ARGV], environment={"CUDA_VISIBLE_DEVICES": "MIG-a1,MIG-b2"})
    found = read(tmp_path, shown(LLM), mig)["llm"]
    assert (found["visible"], found["gpus"]) == (["MIG-a1", "MIG-b2"], [])


@pytest.mark.parametrize("show", ["", "Id=other\n", "no lines of that kind"])
def test_a_silent_systemd_leaves_the_unit(tmp_path: Path, show: str) -> None:
    found = read(tmp_path, show, {})["llm"]
    assert found["active"] is None
    assert found["argv"][0] == "serve"


def test_a_unit_that_is_empty_gives_nothing_rather_than_a_failure(tmp_path: Path) -> None:
    files = {f"/etc/systemd/system/{LLM}": "", **process(9, "ssh.service")}
    found = units.read_units(Source(str(build(tmp_path, {}, files))))["llm"]
    assert (found["argv"], found["env"], found["release"]) == ([], {}, None)


def test_other_units_are_no_model_servers(tmp_path: Path) -> None:
    names = ["nginx.service", "vllm-gateway.service", "vllm-firewall.service", "vllm-a.service.d/x.conf"]
    files = {f"/etc/systemd/system/{name}": UNIT for name in names}
    assert units.read_units(Source(str(build(tmp_path, {}, files)))) == {}


def test_hosts_and_controller_agree_on_which_units_serve_models() -> None:
    assert units.RESERVED_NAMES == RESERVED_NAMES
    others = [file.stem for file in (ROOT / "roles").glob("*/templates/vllm-*.service.j2")]
    assert "vllm-gateway.service" in others
    files = ["vllm-rerank.service", *others, "nginx.service", "vllm-llm.service"]
    assert server_units(files) == ["vllm-llm.service", "vllm-rerank.service"]


def test_a_record_that_is_broken_counts_as_none(tmp_path: Path) -> None:
    whole = {"argv": ["serve"]}
    build(tmp_path, {}, {"/r/a.json": json.dumps(whole), "/r/b.json": "{", "/r/c.json": "[]"})
    source = Source(str(tmp_path))
    assert [read_record(source, name, "/r") for name in ("a", "b", "c", "d")] == [whole, None, None, None]


def test_a_variable_that_every_process_has_is_told_where_it_was_declared(tmp_path: Path) -> None:
    unit = {
        f"/etc/systemd/system/{LLM}": UNIT + "Environment=TZ=Europe/Berlin\nEnvironment=HF_HOME=%C/vllm-fleet/llm\n"
    }
    process_environment = {
        **ENVIRONMENT,
        "TZ": "Europe/Berlin",
        "LANG": "C.UTF-8",
        "HF_HOME": "/var/cache/vllm-fleet/llm",
    }
    running = process(2297, LLM, words=[*WRAPPER, "--", VLLM, *ARGV], environment=process_environment)
    found = read(tmp_path, shown(LLM), {**running, **unit})["llm"]["env"]
    assert found["TZ"] == "Europe/Berlin"
    assert not {"LANG", "HF_HOME"} & found.keys()
