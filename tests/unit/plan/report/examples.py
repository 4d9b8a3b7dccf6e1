"""Constructed reports: plans in the form of ServingPlan.as_dict, with round but plausible amounts."""

from __future__ import annotations

from typing import Any

from vllm_fleet.plan.report.hosts import Report, host_report

GIB = 1 << 30
L40S = ("NVIDIA L40S", 45 * GIB)
H100 = ("NVIDIA H100 80GB HBM3", 80 * GIB)
LENGTH = 32768


def memory(weights: float, overhead: float, error: float, kv: float = 0, per_token: int = 18432) -> dict[str, Any]:
    """Amounts in GiB, per_token in bytes."""
    tokens = int(kv * GIB) // per_token
    return {
        "weights": [int(weights * GIB), 0],
        "activations": [int(overhead * GIB / 2), int(error * GIB)],
        "graphs": [int(overhead * GIB / 2), 0],
        "context": [GIB // 2, GIB // 5],
        "kv_cache_bytes": int(kv * GIB),
        "kv_tokens": tokens,
        "requests_at_full_length": round(tokens / LENGTH, 2),
        "source": "estimate",
    }


def server(
    name: str, port: int, gpus: list[int], share: float | None, amounts: dict[str, Any] | None
) -> dict[str, Any]:
    kind = name if name in ("embedding", "rerank") else "llm"
    argv = [
        "serve",
        f"/var/lib/vllm-fleet/models/{name}",
        "--dtype",
        "float16",
        "--tensor-parallel-size",
        f"{len(gpus)}",
    ]
    argv += ["--port", str(port)] + ([] if share is None else ["--gpu-memory-utilization", str(share)])
    return {
        "name": name,
        "unit": f"vllm-{name}.service",
        "kind": kind,
        "model": f"org/{name}",
        "host": "",
        "port": port,
        "base_url": "",
        "tensor_parallel_size": len(gpus),
        "max_model_len": LENGTH if kind == "llm" else None,
        "argv": argv,
        "env": {"CUDA_VISIBLE_DEVICES": ",".join(map(str, gpus)), "HF_HUB_OFFLINE": "1"},
        "gpus": gpus,
        "share": share,
        "memory": amounts,
    }


def plan(host: str, devices: list[tuple[str, int]], servers: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    address = f"http://{host}.example.org"
    return {
        "backend": "cuda",
        "host": host,
        "assumed": False,
        "devices": [
            {"index": index, "name": name, "memory_bytes": size, "limit_bytes": int(size * 0.95), "held_bytes": 0}
            for index, (name, size) in enumerate(devices)
        ],
        "models": [],
        "servers": [one | {"host": host, "base_url": f"{address}:{one['port']}"} for one in servers],
    } | more


def guide(host: str = "gpu-01") -> dict[str, Any]:
    """The guide's three servers on two GPUs."""
    return plan(
        host,
        [L40S, L40S],
        [
            server("llm", 32804, [0, 1], 0.84, memory(2.9, 2.6, 0.6, 45 * 0.84 - 5.5)),
            server("embedding", 32805, [0], 0.1, memory(1.1, 1.4, 0.5)),
            server("rerank", 32806, [1], 0.1, memory(1.1, 1.4, 0.5)),
        ],
    )


def eight(host: str = "gpu-08") -> dict[str, Any]:
    """One large model on eight GPUs, on one of which somebody else is, and a server of which nothing is known."""
    made = plan(
        host,
        [H100] * 8,
        [
            server("llm", 32804, list(range(8)), 0.8, memory(16.4, 5, 1, 80 * 0.8 - 21.4, 40960)),
            server("own", 32807, [7], 0.1, None),
        ],
    )
    made["devices"][0] |= {"held_bytes": 3 * GIB, "limit_bytes": 73 * GIB}
    return made


def processors(host: str = "lab-1") -> dict[str, Any]:
    """The lab: no GPUs, servers share the main memory."""
    servers = [
        server("llm", 32804, [], None, memory(0.02, 0.7, 0.2, 1, 512)) | {"tensor_parallel_size": 2},
        server("embedding", 32805, [], None, memory(0.01, 0.7, 0.2)) | {"tensor_parallel_size": 1},
    ]
    for one in servers:
        one["env"] = {"VLLM_CPU_KVCACHE_SPACE": "1"}
    devices = [{"index": 0, "name": "main memory", "memory_bytes": 24 * GIB, "limit_bytes": 24 * GIB, "held_bytes": 0}]
    return plan(host, [], servers) | {"backend": "cpu", "devices": devices}


def not_known(host: str = "bare") -> dict[str, Any]:
    """A host of whose GPUs nothing is known yet."""
    return plan(host, [], [server("llm", 32804, [0, 1], None, None)], assumed=True)


def running(plan: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What model_server_facts says where exactly this plan runs."""
    return {
        one["name"]: {"unit": one["unit"], "active": "active", "argv": one["argv"], "env": one["env"]}
        for one in plan["servers"]
    }


REFUSAL = {
    "where": "server llm",
    "message": "wants GPUs 0, 1, gpu-02 has 1; fits with tensor_parallel_size: 1, or 2 GPUs of this kind",
    "code": "plan-placement",
    "severity": "error",
    "remedies": [[{"server": "llm", "key": "tensor_parallel_size", "value": 1}]],
}
WARNING = {
    "where": "server llm",
    "message": "trust_remote_code is set, and the model has no code of its own; leave it out",
    "code": "plan-model",
    "severity": "warning",
    "remedies": [],
}


def one_host() -> Report:
    now = running(guide())
    now["llm"]["argv"] = [*now["llm"]["argv"][:-1], "0.7", "--max-num-seqs", "64"]
    now["old-chat"] = now.pop("rerank") | {"unit": "vllm-old-chat.service"}
    return Report((host_report("gpu-01", guide(), [WARNING], now),))


def many_hosts(number: int = 200) -> Report:
    """All but three alike: one refused, one of other GPUs, one unreachable."""
    names = [f"gpu-{n:03}" for n in range(1, number - 2)]
    hosts = [host_report(name, guide(name), [], running(guide(name))) for name in names]
    gone = {"where": "host", "message": "The host cannot be reached.", "code": "host-unreachable", "severity": "error"}
    return Report(
        (
            *hosts,
            host_report("gpu-02", None, [REFUSAL, WARNING], {}),
            host_report("gpu-big", eight("gpu-big"), [], {}),
            host_report("gpu-gone", None, [gone], None),
        )
    )


def other_hosts() -> Report:
    return Report(
        (
            host_report("lab-1", processors(), [], running(processors())),
            host_report("bare", not_known(), [], {}),
            host_report("gpu-08", eight(), [], None),
        ),
        what_if="8xH100",
    )
