"""Which requests a gateway lets through: exact pairs of method and path, everything else is shut.

Kept apart from vLLM's own routes on purpose: what a new version of vLLM adds stays shut until it stands here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from vllm_fleet.gateway.result import Served

MODELS = "/v1/models"
# Paths that clients share, by the kind of server they lead to.
SHARED = {
    "llm": ("/v1/chat/completions", "/v1/completions", "/v1/responses"),
    "embedding": ("/v1/embeddings",),
    "rerank": ("/v1/rerank", "/v2/rerank", "/rerank", "/v1/score", "/score"),
}
# Of one server alone: by /classify the verification tells a reranker from an embedding model.
OF_SERVER = {"llm": (), "embedding": (), "rerank": ("/classify",)}


def request(method: str, path: str) -> str:
    """Return the key under which HAProxy looks a request up."""
    return f"{method}.{path}"


def routes(servers: Iterable[Served]) -> Iterator[tuple[str, str, str, str]]:
    """Give each open request: its method and path, where it leads to, and the path that vLLM is asked.

    It leads to ``models``, ``kind.KIND`` (any server of the kind), ``server.NAME`` or ``instance.NAME.HOST``.
    """
    yield "GET", MODELS, "models", MODELS
    chosen = tuple(servers)
    for kind in dict.fromkeys(server.kind for server in chosen):
        for path in SHARED[kind]:
            yield "POST", path, f"kind.{kind}", path
    for server in chosen:
        bases = {f"/servers/{server.name}": f"server.{server.name}"}
        if len(server.instances) > 1:
            bases |= {
                f"/servers/{server.name}@{one.host}": f"instance.{server.name}.{one.host}" for one in server.instances
            }
        for base, target in bases.items():
            yield "GET", f"{base}{MODELS}", target, MODELS
            for path in (*SHARED[server.kind], *OF_SERVER[server.kind]):
                yield "POST", f"{base}{path}", target, path


def backend(target: str) -> str:
    """Return the name of HAProxy's backend for where a route leads: ``server_NAME`` or ``instance_NAME:HOST``."""
    which, _, rest = target.partition(".")
    name, _, host = rest.partition(".")
    return f"server_{name}" if which == "server" else f"instance_{name}:{host}"
