"""What vLLM says of its memory is read as it says it, and noted once for each kind of start."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.load import load
from tests.unit.model_servers.model_server_host import ARGV, GPU_LOG, INVOCATION, METRICS, build, process

from ansible.module_utils.gpu_host.source import Source  # isort: skip
from ansible.module_utils.model_servers import records, reports  # isort: skip

module = load("plugins/modules/model_server_record.py")
UNIT, GIB = "vllm-llm.service", 2**30
SERVER: dict[str, Any] = {
    "unit": UNIT,
    "active": "active",
    "since": 1795709558,
    "invocation": INVOCATION,
    "argv": ARGV,
    "release": "0.32.0-cpu-d9790b1b",
    "probe": {"address": None, "port": None},
    "visible": [],
}
JOURNAL = f"journalctl --no-pager --output=cat --until=@1795709563 _SYSTEMD_INVOCATION_ID={INVOCATION}"
GPUS = "nvidia-smi --query-gpu=uuid,index,name --format=csv,noheader"
HOLDERS = "nvidia-smi --query-compute-apps=gpu_uuid,pid,used_gpu_memory --format=csv,noheader,nounits"


@pytest.fixture
def metrics_port() -> Iterator[int]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(METRICS.encode())

        def log_message(self, format: str, *arguments: Any) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()


def report(root: Path, server: dict[str, Any], commands: dict[str, str], files: dict[str, str]) -> Any:
    return reports.read_report(Source(str(build(root, commands, files))), server)


def test_a_server_on_processors_tells_blocks_and_tokens(tmp_path: Path, metrics_port: int) -> None:
    files = {**process(1, UNIT, pss=1000), **process(2, UNIT, pss=24), **process(3, "ssh.service", pss=5)}
    probe = {"address": "127.0.0.1", "port": str(metrics_port)}
    found = report(tmp_path, {**SERVER, "probe": probe}, {}, files)
    assert (found["num_gpu_blocks"], found["block_size"], found["kv_cache_tokens"]) == (16384, 128, 2_097_152)
    assert found["kv_cache_bytes"] == GIB
    assert found["host_bytes"] == 1024 * 1024
    assert (found["backend"], found["weights_bytes"], found["device_bytes"]) == ("cpu", None, [])


def test_a_server_on_gpus_tells_what_it_measured(tmp_path: Path) -> None:
    commands = {
        JOURNAL: GPU_LOG,
        GPUS: "GPU-a, 0, NVIDIA L40S\nGPU-b, 1, NVIDIA L40S\nGPU-c, 2, NVIDIA T4\n",
        HOLDERS: "GPU-b, 8, 30000\nGPU-a, 7, 31000\nGPU-a, 9, 500\n[N/A], ?, [N/A]\n",
    }
    files = {**process(7, UNIT), **process(8, UNIT), **process(9, "other.service")}
    found = report(tmp_path, {**SERVER, "visible": ["0", "GPU-b"]}, commands, files)
    assert {
        name: round(found[name] / GIB, 2) for name in found if name.endswith("_bytes") and isinstance(found[name], int)
    } == {
        "weights_bytes": 2.93,  # of the rank that holds more
        "consumed_bytes": 3.5,
        "activation_bytes": 1.2,
        "graphs_bytes": 0.45,
        "graphs_reserved_bytes": 0.5,
        "share_bytes": 55.43,
        "free_bytes": 78.5,
        "kv_cache_log_bytes": 50.25,
        "kv_cache_bytes": 50.25,
    }
    assert (found["device_names"], found["device_bytes"]) == (["NVIDIA L40S"] * 2, [31000 << 20, 30000 << 20])
    assert (found["backend"], found["num_gpu_blocks"]) == ("cuda", None)


def test_of_several_engines_the_smallest_counts_and_none_is_no_number() -> None:
    line = 'vllm:cache_config_info{{engine="{}",num_gpu_blocks="{}",kv_cache_size_tokens="None"}} 1.0\n'
    assert reports.cache_config(line.format(0, 9) + line.format(1, 7))["num_gpu_blocks"] == "7"
    assert reports.number("None") is None
    assert reports.cache_config("vllm:other 1\n") == {}


def test_a_server_that_tells_nothing_gives_null_everywhere(tmp_path: Path) -> None:
    found = report(tmp_path, {**SERVER, "probe": {"address": "127.0.0.1", "port": "1"}, "since": None}, {}, {})
    told = {name: value for name, value in found.items() if value not in (None, [])}
    assert set(told) == {"invocation", "release", "argv", "backend"}


def noted(root: Path, log: str, invocation: str) -> dict[str, Any]:
    """Let the module decide, and note what it would; the records lie below the same root."""
    server = {**SERVER, "invocation": invocation, "visible": ["0"]}
    commands = {JOURNAL.replace(INVOCATION, invocation): log, GPUS: "GPU-a, 0, NVIDIA L40S\n"}
    source = Source(str(build(root, commands, {})))
    found: dict[str, Any] = module.news(source, {"llm": server}, "/records")
    for name, record in found.items():
        build(root, commands, {f"/records/{name}.json": json.dumps(record)})
    return found


def test_a_start_is_noted_once(tmp_path: Path) -> None:
    assert list(noted(tmp_path, GPU_LOG, "1")) == ["llm"]
    assert noted(tmp_path, GPU_LOG, "1") == {}


def test_a_start_alike_is_no_news_and_one_that_says_less_takes_nothing_away(tmp_path: Path) -> None:
    noted(tmp_path, GPU_LOG, "1")
    assert noted(tmp_path, GPU_LOG.replace("50.25", "50.26"), "2") == {}
    assert noted(tmp_path, "", "3") == {}
    changed = noted(tmp_path, "Model loading took 9.5 GiB memory and 1 seconds", "4")["llm"]
    assert changed["weights_bytes"] == 9.5 * GIB
    assert changed["kv_cache_bytes"] == round(50.25 * GIB)


def test_a_start_with_other_settings_keeps_nothing_of_the_former() -> None:
    known = {"argv": ["serve"], "release": "1", "backend": "cuda", "device_names": [], "weights_bytes": 5}
    record = {**known, "argv": ["serve", "--enforce-eager"], "weights_bytes": None}
    assert records.says_more(record, known)
    assert records.completed(record, known) == record


def test_a_server_that_does_not_run_is_not_asked(tmp_path: Path) -> None:
    stopped = {**SERVER, "active": "failed"}
    assert module.news(Source(str(build(tmp_path, {}, {}))), {"llm": stopped}, "/records") == {}


def test_files_of_servers_that_are_no_more_go(tmp_path: Path) -> None:
    source = Source(
        str(build(tmp_path, {}, {"/records/llm.json": "{}", "/records/old.json": "{}", "/records/note": ""}))
    )
    assert records.stale(source, ["llm"], "/records") == ["/records/old.json"]
