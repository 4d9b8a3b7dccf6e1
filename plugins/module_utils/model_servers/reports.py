"""What a running vLLM says of its memory: in its metrics, in its log, and through what its processes hold."""

from __future__ import annotations

import re
import urllib.request

from ansible.module_utils.gpu_host.processes import unit_of
from ansible.module_utils.gpu_host.source import number

GIB = 2**30
MIB = 2**20
METRICS_SECONDS = 10
# Lines come a moment later into the journal than the state of the unit.
SETTLE_SECONDS = 5
_INFO = re.compile(r"^vllm:cache_config_info\{(.*)\}", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
# The largest of all ranks counts. Sizes are GiB.
_LINES = {
    "weights_bytes": r"Model loading took ([\d.]+) GiB",
    "consumed_bytes": r"Actual usage is ([\d.]+) GiB for consumed memory",
    "activation_bytes": r"([\d.]+) GiB for peak activation",
    "graphs_bytes": r"Graph capturing finished in [\d.]+ secs?, took ([\d.]+) GiB",
    "graphs_reserved_bytes": r"CUDA graph pool memory: [-\d.]+ GiB \(actual\), ([\d.]+) GiB \(estimated\)",
    "share_bytes": r"Desired GPU memory utilization is \([\d.]+, ([\d.]+) GiB\)",
    "free_bytes": r"Free memory on device \S*\s*\(([\d.]+)/[\d.]+ GiB\) on startup",
    "kv_cache_log_bytes": r"Available KV cache memory: ([\d.]+) GiB",
}


def read_report(source, server):
    """Return vLLM's own numbers of one running server; what it does not say, or cannot be asked, is null.

    Args:
        source: the host.
        server: what `read_units` says of it.
    """
    cache = cache_config(metrics(server["probe"]))
    log = parse_log(journal(source, server))
    devices = device_memory(source, server)
    return {
        "invocation": server["invocation"],
        "release": server["release"],
        "argv": server["argv"],
        "backend": "cuda" if server["visible"] else "cpu",
        "device_names": [device["name"] for device in devices],
        "device_bytes": [device["used_bytes"] for device in devices if device["used_bytes"]],
        "host_bytes": host_memory(source, server["unit"]),
        **log,
        "num_gpu_blocks": number(cache.get("num_gpu_blocks")),
        "block_size": number(cache.get("block_size")),
        "kv_cache_tokens": number(cache.get("kv_cache_size_tokens")),
        # What a processor's ranks keep, and what a former start's measure or a declaration fixed.
        "kv_cache_bytes": number(cache.get("kv_cache_memory_bytes")) or log["kv_cache_log_bytes"],
    }


def metrics(probe):
    """Return the text of a server's /metrics, an empty one where it does not answer."""
    if not (probe["address"] and probe["port"]):
        return ""
    address = "[{}]".format(probe["address"]) if ":" in probe["address"] else probe["address"]
    # A proxy of the environment must not be asked for a server of this host.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open("http://{}:{}/metrics".format(address, probe["port"]), timeout=METRICS_SECONDS) as answer:
            return answer.read().decode("utf-8", "replace")
    except (OSError, ValueError):
        return ""


def cache_config(text):
    """Return the labels of vLLM's cache_config_info, of the engine that has fewest blocks where there are several."""
    engines = [dict(_LABEL.findall(labels)) for labels in _INFO.findall(text)]
    return min(engines, key=lambda labels: number(labels.get("num_gpu_blocks")) or 0, default={})


def journal(source, server):
    """Return the log of a server from its start until it was active."""
    if not (server["invocation"] and server["since"]):
        return ""
    words = ["journalctl", "--no-pager", "--output=cat", "--until=@{}".format(server["since"] + SETTLE_SECONDS)]
    return source.run(*words, "_SYSTEMD_INVOCATION_ID={}".format(server["invocation"])).stdout


def parse_log(text):
    """Return the sizes in a log in bytes, null where it does not name them."""
    sizes = {name: [float(size) for size in re.findall(pattern, text)] for name, pattern in _LINES.items()}
    return {name: round(max(found) * GIB) if found else None for name, found in sizes.items()}


def device_memory(source, server):
    """Return ``name`` and ``used_bytes`` of each GPU a server sees, in rank order; what its processes hold there."""
    if not server["visible"]:
        return []
    gpus = {}
    for row in rows(source.run("nvidia-smi", "--query-gpu=uuid,index,name", "--format=csv,noheader")):
        if len(row) == 3:
            gpus[row[0]] = gpus[row[1]] = {"name": row[2], "used_bytes": 0}
    query = "--query-compute-apps=gpu_uuid,pid,used_gpu_memory"
    for row in rows(source.run("nvidia-smi", query, "--format=csv,noheader,nounits")):
        if len(row) == 3 and row[0] in gpus and unit_of(source.read(f"/proc/{row[1]}/cgroup") or "") == server["unit"]:
            gpus[row[0]]["used_bytes"] += (number(row[2]) or 0) * MIB
    return [gpus[device] for device in server["visible"] if device in gpus]


def rows(answer):
    """Return the fields of each line of a comma-separated answer."""
    return [[field.strip() for field in line.split(",")] for line in answer.stdout.splitlines()]


def host_memory(source, unit):
    """Return the main memory that the processes of a unit share fairly among all who map it, None where unreadable."""
    total = 0
    for pid in (name for name in source.names("/proc") if name.isdecimal()):
        if unit_of(source.read(f"/proc/{pid}/cgroup") or "") == unit:
            share = re.search(r"^Pss:\s+(\d+) kB", source.read(f"/proc/{pid}/smaps_rollup") or "", re.MULTILINE)
            total += int(share.group(1)) * 1024 if share else 0
    return total or None
