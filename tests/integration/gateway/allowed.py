"""What may be open, written down apart from the code that opens it."""

from __future__ import annotations

from typing import Any

SHARED = {
    "llm": {"/v1/chat/completions", "/v1/completions", "/v1/responses"},
    "embedding": {"/v1/embeddings"},
    "rerank": {"/v1/rerank", "/v2/rerank", "/rerank", "/v1/score", "/score"},
}
OF_SERVER = {"llm": set[str](), "embedding": set[str](), "rerank": {"/classify"}}


def allowed(plan: dict[str, Any]) -> set[tuple[str, str]]:
    """Return the pairs of method and path that a key without restrictions opens."""
    found = {("GET", "/v1/models")}
    for server in plan["servers"]:
        own = f"/servers/{server['name']}"
        found |= {("POST", path) for path in SHARED[server["kind"]]}
        found |= {("POST", own + path) for path in SHARED[server["kind"]] | OF_SERVER[server["kind"]]}
        found.add(("GET", f"{own}/v1/models"))
    return found


def reachable(plan: dict[str, Any]) -> set[tuple[str, str]]:
    """Return the pairs of method and path that may arrive at a model server."""
    kinds = {server["kind"] for server in plan["servers"]}
    return {("GET", "/v1/models")} | {("POST", path) for kind in kinds for path in SHARED[kind] | OF_SERVER[kind]}
