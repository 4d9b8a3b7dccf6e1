"""A host with model servers, as files and answers of commands.

The llm's unit, command line, metrics and memory are recorded on a lab host; those of the GPU server are constructed
from the texts that vLLM 0.32.0 prints.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

INVOCATION = "b357440424284c628e2bb4fba7511974"
VLLM = "/opt/vllm-fleet/releases/0.32.0-cpu-d9790b1b/bin/vllm"
WRAPPER = ["python", "-IB", "/opt/vllm-fleet/libexec/vllm_notify", "--address", "127.0.0.1", "--port", "32804"]
ARGV = ["serve", "/var/lib/vllm-fleet/models/lab--tiny-qwen2", "--dtype", "float16", "--tensor-parallel-size", "2"]
ENVIRONMENT = {
    "PATH": "/usr/bin",
    "INVOCATION_ID": INVOCATION,
    "CACHE_DIRECTORY": "/var/cache/vllm-fleet/llm",
    "VLLM_CACHE_ROOT": "/var/cache/vllm-fleet/llm/vllm_cache_root",
    "HF_HUB_OFFLINE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "0|1",
}
UNIT = r"""[Service]
ExecStart=python -IB /opt/vllm-fleet/libexec/vllm_notify \
    --describe "float16, port 32804" --unit %n \
    -- /opt/vllm-fleet/releases/0.32.0-cpu-d9790b1b/bin/vllm \
    serve /models/100%%/$$HOME --hf-overrides "{\"a b\": 1}" --gpu-memory-utilization 0.7
Environment=CUDA_VISIBLE_DEVICES=1,0
Environment="GREETING=say \"hi\""
Environment=PATH=/usr/bin
"""
METRICS = """# TYPE vllm:cache_config_info gauge
vllm:cache_config_info{block_size="128",cache_dtype="auto",engine="0",kv_cache_max_concurrency="1024.0",\
kv_cache_memory_bytes="1073741824",kv_cache_size_tokens="2097152",num_gpu_blocks="16384",sliding_window="None"} 1.0
"""
GPU_LOG = """(Worker_TP0 pid=7) INFO 11-26 16:12:10 Model loading took 2.91 GiB memory and 1.234567 seconds
(Worker_TP1 pid=8) INFO 11-26 16:12:10 Model loading took 2.93 GiB memory and 1.234567 seconds
(Worker_TP0 pid=7) INFO 11-26 16:12:30 Available KV cache memory: 50.25 GiB
(EngineCore pid=6) INFO 11-26 16:12:31 GPU KV cache size: 1,463,568 tokens, Maximum concurrency for 32,768 tokens \
per request: 44.66x
(Worker_TP0 pid=7) INFO 11-26 16:12:40 Graph capturing finished in 7 secs, took 0.45 GiB
(Worker_TP0 pid=7) INFO 11-26 16:12:40 CUDA graph pool memory: 0.45 GiB (actual), 0.5 GiB (estimated), difference: \
0.05 GiB (11.1%).
(Worker_TP0 pid=7) INFO 11-26 16:12:41 Free memory on device (78.5/79.19 GiB) on startup. Desired GPU memory \
utilization is (0.7, 55.43 GiB). Actual usage is 3.5 GiB for consumed memory (weights + non-torch), 1.2 GiB for peak \
activation, and 0.45 GiB for CUDAGraph memory. Replace gpu_memory_utilization config with ...
"""


def shown(unit: str, active: str = "active", pid: int = 2297) -> str:
    return (
        f"Id={unit}\nActiveState={active}\nMainPID={pid}\nInvocationID={INVOCATION}\n"
        "ActiveEnterTimestamp=Thu 2026-11-26 16:12:38 UTC\n"
    )


def build(root: Path, commands: dict[str, Any], files: dict[str, str]) -> Path:
    """Lay a host out below a directory."""
    answers = {line: {"rc": 0, "stdout": stdout} for line, stdout in commands.items()}
    for path, content in {**files, "commands.json": json.dumps(answers)}.items():
        file = root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    return root


def process(
    pid: int, unit: str, pss: int = 0, words: Sequence[str] = (), environment: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Files of a process of a unit; ``pss`` in kB."""
    return {
        f"/proc/{pid}/cgroup": f"0::/system.slice/{unit}\n",
        f"/proc/{pid}/smaps_rollup": f"00400000-7fff [rollup]\nRss: {3 * pss} kB\nPss:    {pss} kB\nPss_Anon: 1 kB\n",
        f"/proc/{pid}/cmdline": "".join(word + "\0" for word in words),
        f"/proc/{pid}/environ": "".join(f"{name}={value}\0" for name, value in (environment or {}).items()),
    }
