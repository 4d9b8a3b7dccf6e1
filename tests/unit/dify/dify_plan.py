"""A gateway's plan as the tests need it: the lab's three servers, or others."""

from __future__ import annotations

from typing import Any

from vllm_fleet.gateway.result import GatewayPlan, Instance, Key, Served

BASE = "https://10.0.0.2:8443"
SECRET = "vf-0123456789abcdefghijklmnop"


def served(name: str, kind: str, model: str = "", length: int | None = 512, tools: bool = False) -> Served:
    instance = Instance("gpu-1", f"vllm-{name}.service", "127.0.0.1", 32804, f"{BASE}/servers/{name}")
    return Served(
        name=name,
        kind=kind,
        model=model or f"tiny-{kind}",
        context_length=length,
        tool_calls=tools,
        keep_alive_seconds=75,
        url=f"{BASE}/servers/{name}",
        instances=(instance,),
    )


LAB = (
    served("embedding", "embedding", "tiny-embedding"),
    served("llm", "llm", "tiny-qwen2", 2048, tools=True),
    served("rerank", "rerank", "tiny-reranker"),
)


def plan(*servers: Served, keys: tuple[Key, ...] = (Key("default", 0, 64, None),), **changes: Any) -> dict[str, Any]:
    fields = {"host": "gpu-1", "base_url": BASE, "tls": "own_ca", **changes}
    return GatewayPlan(servers=servers or LAB, keys=keys, maps={}, **fields).as_dict()
