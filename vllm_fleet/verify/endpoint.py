"""The endpoints to verify, as handed over in JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from typing import Any
from urllib.parse import urlsplit

from vllm_fleet.errors import FleetError

KINDS = ("llm", "embedding", "rerank")
_TYPES: dict[str, tuple[tuple[type, ...], str]] = {
    "str": ((str,), "text"),
    "int": ((int,), "a whole number"),
    "bool": ((bool,), "true or false"),
    "int | None": ((int, type(None)), "a whole number or null"),
    "str | None": ((str, type(None)), "text or null"),
}


@dataclass(frozen=True)
class Endpoint:
    """One model server: where it is reached and what was declared for it."""

    name: str
    host: str
    unit: str
    kind: str  # one of KINDS
    base_url: str  # without /v1
    model: str  # the name it is served under
    dtype: str
    tensor_parallel_size: int
    max_model_len: int | None = None  # tokens; None: whatever the model allows
    tool_calls: bool = False
    api_key: str | None = field(default=None, repr=False)
    trust_remote_code: bool = False

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of `base_url`."""
        parts = urlsplit(self.base_url)
        return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def parse_endpoints(text: str, source: str) -> list[Endpoint]:
    """The endpoints in `text`, JSON of the form `{"servers": [{"name": ..., "base_url": ..., ...}]}`.

    Raises:
        FleetError: `text` is not of that form, or names no server; says where in `source`.
    """
    try:
        data = json.loads(text)
    except ValueError as error:
        raise FleetError(f"{source} is not JSON: {error}.") from None
    servers = data.get("servers") if isinstance(data, Mapping) else None
    if not isinstance(servers, list):
        raise FleetError(f'{source}: expected {{"servers": [...]}}, found {type(data).__name__} without such a list.')
    if not servers:
        raise FleetError(f"{source} names no server, so there is nothing to verify.")
    endpoints = [_endpoint(server, f"{source}: server {number}") for number, server in enumerate(servers, 1)]
    for (host, name), count in Counter((one.host, one.name) for one in endpoints).items():
        if count > 1:
            raise FleetError(f"{source}: server {name} on {host} is there {count} times.")
    return endpoints


def _endpoint(server: object, where: str) -> Endpoint:
    if not isinstance(server, Mapping):
        raise FleetError(f"{where}: expected an object, found {type(server).__name__}.")
    where = f"{where} ({server['name']})" if isinstance(server.get("name"), str) else where
    known = {item.name: item for item in fields(Endpoint)}
    if unknown := sorted(map(str, set(server) - set(known))):
        raise FleetError(f"{where}: unknown key {unknown[0]!r}; known are {', '.join(known)}.")
    values: dict[str, Any] = {}
    for key, item in known.items():
        if key not in server:
            if item.default is MISSING:
                raise FleetError(f"{where}: {key} is missing.")
            continue
        types, wanted = _TYPES[str(item.type)]
        value = server[key]
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            found = "" if key == "api_key" else f", found {value!r}"
            raise FleetError(f"{where}: {key} must be {wanted}{found}.")
        values[key] = value
    endpoint = Endpoint(**{**values, "base_url": values["base_url"].rstrip("/")})
    if endpoint.kind not in KINDS:
        raise FleetError(f"{where}: kind must be one of {', '.join(KINDS)}, found {endpoint.kind!r}.")
    _check_url(endpoint.base_url, where)
    return endpoint


def _check_url(url: str, where: str) -> None:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if usable and "@" in parts.netloc:
        raise FleetError(f"{where}: base_url must hold no user and password; reports show it.")
    if not usable:
        raise FleetError(f"{where}: base_url must look like http://10.0.0.2:32804, found {url!r}.")
    if parts.path.endswith("/v1"):
        raise FleetError(f"{where}: base_url is given without /v1, found {url!r}.")


def labels(endpoints: Sequence[Endpoint]) -> list[str]:
    """A short unique label for each endpoint: its name, with the host where the name is there more than once."""
    count = Counter(one.name for one in endpoints)
    return [one.name if count[one.name] == 1 else f"{one.name}@{one.host}" for one in endpoints]
