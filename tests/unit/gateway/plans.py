"""Serving plans as far as a gateway looks at them."""

from __future__ import annotations

from typing import Any

from vllm_fleet.gateway.plan import Settings

SETTINGS = Settings("gw.example.com", 8443, "own_ca")
KEYS = [{"name": "default"}]
SECRETS = {"default": ["sk-made-once-0123456789"]}


def server(
    name: str, kind: str, port: int, host: str = "gpu-1", listens: str = "127.0.0.1", **other: Any
) -> dict[str, Any]:
    """Return one planned server; ``listens`` is its bind address."""
    return {
        "name": name,
        "kind": kind,
        "port": port,
        "host": host,
        "unit": f"vllm-{name}.service",
        "served_model_name": f"{name}-model",
        "context_length": 8192,
        "tool_calls": kind == "llm",
        "env": {"VLLM_HTTP_TIMEOUT_KEEP_ALIVE": "75"},
        "probe_address": listens,
        "base_url": f"http://{listens}:{port}",
        **other,
    }


def guide(host: str = "gpu-1", listens: str = "127.0.0.1") -> dict[str, Any]:
    """Return the plan of a host with the guide's three servers."""
    kinds = {"llm": 32804, "embedding": 32805, "rerank": 32806}
    return {"servers": [server(kind, kind, port, host, listens) for kind, port in kinds.items()]}
