"""The endpoints to verify, as handed over in JSON."""

from __future__ import annotations

import json
import ssl
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, TypeVar
from urllib.parse import urlsplit

from vllm_fleet.errors import FleetError

KINDS = ("llm", "embedding", "rerank")
GATEWAY = "gateway"  # an endpoint that stands before servers
_TYPES: dict[str, tuple[tuple[type, ...], str]] = {
    "str": ((str,), "text"),
    "int": ((int,), "a whole number"),
    "bool": ((bool,), "true or false"),
    "int | None": ((int, type(None)), "a whole number or null"),
    "str | None": ((str, type(None)), "text or null"),
}


@dataclass(frozen=True)
class Served:
    """A model server behind a gateway, as far as the gateway's key may use it."""

    name: str
    kind: str  # one of KINDS
    model: str
    url: str  # its own base URL at the gateway, without /v1
    max_model_len: int | None = None  # tokens; None: whatever the model allows

    @property
    def path(self) -> str:
        """The path of `url`."""
        return urlsplit(self.url).path


@dataclass(frozen=True)
class Instance:
    """A model server on one host behind a gateway."""

    server: str
    host: str
    unit: str
    address: str  # where its port must be shut to all but gateways
    port: int


@dataclass(frozen=True)
class Endpoint:
    """One model server, or one gateway: where it is reached and what was declared for it.

    A gateway has `served`, `instances` and `gateway_addresses`, a server has `model`, `dtype` and so on.
    """

    name: str
    host: str
    unit: str
    kind: str  # one of KINDS, or GATEWAY
    base_url: str  # without /v1
    model: str = ""  # the name it is served under
    dtype: str = ""
    tensor_parallel_size: int = 0
    max_model_len: int | None = None  # tokens; None: whatever the model allows
    tool_calls: bool = False
    api_key: str | None = field(default=None, repr=False)
    trust_remote_code: bool = False
    ca_file: str | None = None  # certificates that are trusted instead of the usual ones
    gateway: str | None = None  # the host of the gateway on the way to the server, if any
    served: tuple[Served, ...] = ()
    instances: tuple[Instance, ...] = ()
    gateway_addresses: tuple[str, ...] = ()  # of all gateways: from there the ports of instances are open

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of `base_url`."""
        parts = urlsplit(self.base_url)
        return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)

    @property
    def encrypted(self) -> bool:
        """Whether it is reached by TLS."""
        return urlsplit(self.base_url).scheme == "https"


_REQUIRED = dict.fromkeys(KINDS, ("model", "dtype", "tensor_parallel_size")) | {GATEWAY: ("served",)}
_FOREIGN = dict.fromkeys(KINDS, ("served", "instances", "gateway_addresses")) | {
    GATEWAY: ("model", "dtype", "tensor_parallel_size", "max_model_len", "tool_calls", "gateway")
}


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
    endpoint = _parsed(Endpoint, server, where)
    where = f"{where} ({endpoint.name})"
    if endpoint.kind not in _REQUIRED:
        raise FleetError(f"{where}: kind must be one of {', '.join(_REQUIRED)}, found {endpoint.kind!r}.")
    for key in _REQUIRED[endpoint.kind]:
        if not getattr(endpoint, key):
            raise FleetError(f"{where}: {key} is missing.")
    for key in _FOREIGN[endpoint.kind]:
        if getattr(endpoint, key):
            raise FleetError(f"{where}: {key} does not apply to kind {endpoint.kind}.")
    for one in endpoint.served:
        if one.kind not in KINDS:
            raise FleetError(f"{where}: {one.name}: kind must be one of {', '.join(KINDS)}, found {one.kind!r}.")
        _check_url(one.url, where)
    _check_url(endpoint.base_url, where)
    if endpoint.kind == GATEWAY and urlsplit(endpoint.base_url).path:
        raise FleetError(f"{where}: the base_url of a gateway has no path, found {endpoint.base_url!r}.")
    _check_ca_file(endpoint.ca_file, where)
    return endpoint


_T = TypeVar("_T", Endpoint, Served, Instance)


def _parsed(cls: type[_T], data: object, where: str) -> _T:
    """`data` as an object of one of the dataclasses of this module, every field of the type that is written there."""
    if not isinstance(data, Mapping):
        raise FleetError(f"{where}: expected an object, found {type(data).__name__}.")
    where = f"{where} ({data['name']})" if isinstance(data.get("name"), str) else where
    known = {item.name: item for item in fields(cls)}
    if unknown := sorted(map(str, set(data) - set(known))):
        raise FleetError(f"{where}: unknown key {unknown[0]!r}; known are {', '.join(known)}.")
    values: dict[str, Any] = {}
    for key, item in known.items():
        if key in data:
            values[key] = _value(str(item.type), data[key], key, where)
        elif item.default is MISSING:
            raise FleetError(f"{where}: {key} is missing.")
    return cls(**values)


def _value(declared: str, value: Any, key: str, where: str) -> Any:
    match declared:
        case "tuple[Served, ...]":
            return tuple(_parsed(Served, one, f"{where}: {key}") for one in _list(value, key, where))
        case "tuple[Instance, ...]":
            return tuple(_parsed(Instance, one, f"{where}: {key}") for one in _list(value, key, where))
        case "tuple[str, ...]":
            return tuple(_value("str", one, key, where) for one in _list(value, key, where))
    types, wanted = _TYPES[declared]
    if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
        found = "" if key == "api_key" else f", found {value!r}"
        raise FleetError(f"{where}: {key} must be {wanted}{found}.")
    return str(value).rstrip("/") if key in ("base_url", "url") else value


def _list(value: object, key: str, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise FleetError(f"{where}: {key} must be a list, found {type(value).__name__}.")
    return value


def _check_ca_file(file: str | None, where: str) -> None:
    try:
        if file is not None:
            ssl.create_default_context(cafile=file)
    except OSError as error:
        raise FleetError(
            f"{where}: ca_file {file} holds no certificates that can be read: {error}. The gateway's authority is "
            "written there by playbooks/gateway.yml."
        ) from None


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
