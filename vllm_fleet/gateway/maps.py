"""HAProxy's maps: everything that it looks up, so that keys and their limits change without a reload."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256

from vllm_fleet.gateway.result import Key, Served
from vllm_fleet.gateway.routes import backend, request, routes
from vllm_fleet.plan.sentences import listed


def fingerprint(secret: str) -> str:
    """Return what of a key is kept at rest: SHA-256 as HAProxy's converters write it. Keys are random, so no salt."""
    return sha256(secret.encode()).hexdigest().upper()


def make_maps(
    servers: Sequence[Served], keys: Sequence[Key], secrets: Mapping[str, Iterable[str]]
) -> dict[str, dict[str, str]]:
    """Return the maps by file name.

    Args:
        servers: what is served.
        keys: who may use it.
        secrets: of each key, by its name; all of them are accepted.
    """
    open_routes = list(routes(servers))
    allowed = {key.name: [one for one in servers if _may(key, one)] for key in keys}
    return {
        "keys.map": {fingerprint(secret): key.name for key in keys for secret in secrets.get(key.name, ())},
        "rates.map": {key.name: str(key.requests_per_minute) for key in keys if key.requests_per_minute},
        "concurrency.map": {key.name: str(key.concurrent_requests) for key in keys},
        "routes.map": {request(method, path): target for method, path, target, _ in open_routes},
        "upstream_paths.map": {request(method, path): upstream for method, path, _, upstream in open_routes},
        "backends.map": {
            target: backend(target) for _, _, target, _ in open_routes if not target.startswith(("kind.", "models"))
        },
        "access.map": {f"{name}.{one.name}": "yes" for name, mine in allowed.items() for one in mine},
        # A kind of which the key may use one server only: no look into the body is needed.
        "only_servers.map": {
            f"{name}.{kind}": of_kind[0].name
            for name, mine in allowed.items()
            for kind in _kinds(servers)
            if len(of_kind := [one for one in mine if one.kind == kind]) == 1
        },
        "servers_of_models.map": {f"{one.kind}.{one.model}": one.name for one in servers},
        "models_of_servers.map": {one.name: one.model for one in servers},
        "models.map": {name: _model_list(mine) for name, mine in allowed.items()},
        "known.map": {
            f"{name}.{kind}": _known([one for one in mine if one.kind == kind])
            for name, mine in allowed.items()
            for kind in _kinds(servers)
        },
    }


def _may(key: Key, server: Served) -> bool:
    return key.servers is None or server.name in key.servers


def _kinds(servers: Iterable[Served]) -> list[str]:
    return list(dict.fromkeys(server.kind for server in servers))


def _model_list(servers: Iterable[Served]) -> str:
    """Return the answer to GET /v1/models, in the form of vLLM's own."""
    models = [
        {
            "id": one.model,
            "object": "model",
            "created": 0,
            "owned_by": "vllm",
            "root": one.model,
            "parent": None,
            "max_model_len": one.context_length,
        }
        for one in servers
    ]
    return json.dumps({"object": "list", "data": models})


def _known(servers: Sequence[Served]) -> str:
    """Return the models a client may name, and their own base URLs, as they stand in the JSON text of an error."""
    if not servers:
        return "none"
    return json.dumps(listed([f"{one.model} (also at {one.url}/v1)" for one in servers]))[1:-1]
