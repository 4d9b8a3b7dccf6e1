"""Checks of the doors that a gateway keeps shut: without a key all of them, with one all that are not for clients."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from vllm_fleet.verify import raw
from vllm_fleet.verify.checks.common import CLASSIFY, MODELS
from vllm_fleet.verify.checks.gateway import REQUESTS, cause, ping_of
from vllm_fleet.verify.checks.refusals import WRONG_KEY
from vllm_fleet.verify.client import Client
from vllm_fleet.verify.endpoint import GATEWAY, Endpoint
from vllm_fleet.verify.outcome import NotRun, Wrong
from vllm_fleet.verify.questions import Questions
from vllm_fleet.verify.registry import check

SHUT_SECONDS = 2.0  # a packet that is dropped is never answered
MANY = 16  # connections tried at a time

# What vLLM 0.32 answers beside what clients need, most of it without any key; the second line in development mode only.
OPERATIONS = (
    *("/metrics", "/docs", "/docs/oauth2-redirect", "/redoc", "/openapi.json", "/health", "/ping", "/load", "/version"),
    *(
        "/server_info",
        "/collective_rpc",
        "/sleep",
        "/wake_up",
        "/is_sleeping",
        "/reset_prefix_cache",
        "/reset_mm_cache",
    ),
    *("/tokenize", "/detokenize", "/tokenizer_info", "/pooling", "/classify", "/invocations", "/generative_scoring"),
    *("/scale_elastic_ep", "/is_scaling_elastic_ep", "/resume", "/abort_requests", "/kv_event_sources"),
    *("/start_profile", "/stop_profile", "/inference/v1/generate", "/v1/load_lora_adapter", "/v1/unload_lora_adapter"),
    *("/v1/chat/completions/batch", "/v1/completions/render", "/v1/messages", "/v1/messages/count_tokens"),
    *("/v1/responses/resp_1", "/v1/responses/resp_1/cancel", "/v1/audio/transcriptions", "/v1/systemone", "/v2/embed"),
)
# Of the proxy itself, and what is nowhere.
_NOWHERE = ("/", "/v1", "/v1/", "/servers", "/servers/", "/stats", "/favicon.ico", "/vllm-fleet-no-such-path")
_METHODS = ("GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS")
_OPEN = "haproxy.cfg or its maps were changed by hand, or clients reach a server past the gateway"


@check(GATEWAY, title="lets nobody in without a key, on any path")
def key_required_everywhere(client: Client, endpoint: Endpoint, questions: Questions) -> None:
    """Known, unknown and operational paths alike, so that nobody without a key learns even what there is."""
    if not endpoint.api_key:
        raise NotRun("no key was given: what is refused without one cannot be told from what is refused anyway")
    path, body = ping_of(endpoint.served[0])
    for method, target, sent in _everything(endpoint):
        for what, header in (("without a key", None), ("with a wrong key", f"Bearer {WRONG_KEY}")):
            _require(401, client, endpoint, method, target, sent, what, {"Authorization": header})
    for what, header in _nearly(endpoint.api_key):
        _require(401, client, endpoint, "GET", MODELS, None, what, {"Authorization": header})
        _require(401, client, endpoint, "POST", path, body, what, {"Authorization": header})


@check(GATEWAY, title="hides vLLM's operational paths, also from those who have a key")
def operations_hidden(client: Client, endpoint: Endpoint, questions: Questions) -> None:
    """They tell what others ask, load models, put servers to sleep, or compute past all limits."""
    _, body = ping_of(endpoint.served[0])
    for target in (*OPERATIONS, *_NOWHERE):
        for method in ("GET", "POST"):
            _require(404, client, endpoint, method, target, body)
    for server in endpoint.served:
        for path in OPERATIONS:
            # By its /classify the verification tells a reranker from other encoders.
            if (server.kind, path) != ("rerank", CLASSIFY):
                _require(404, client, endpoint, "POST", f"{server.path}{path}", body)
        _require(404, client, endpoint, "GET", f"{server.path}/metrics", None)


@check(GATEWAY, title="takes no other writing of a path for the path")
def path_tricks_refused(client: Client, endpoint: Endpoint, questions: Questions) -> None:
    """Where two programs read a path differently, one of them guards another door than the other opens."""
    for server in endpoint.served:
        body = ping_of(server)[1]
        for path in REQUESTS[server.kind]:
            for target in _writings(path, server.path):
                _require(404, client, endpoint, "POST", target, body)
    up = f"{endpoint.served[0].path}/v1/models/../../metrics"
    for target in (f"{MODELS}/../../metrics", f"{MODELS}/..%2f..%2fmetrics", up, f"{endpoint.base_url}/metrics"):
        _require(404, client, endpoint, "GET", target, None)


@check(GATEWAY, title="takes no other method than the one that a path is for")
def methods_refused(client: Client, endpoint: Endpoint, questions: Questions) -> None:
    """An allow-list of paths alone would let through what vLLM does on them some day."""
    for path in dict.fromkeys(path for one in endpoint.served for path in REQUESTS[one.kind]):
        for method in _METHODS:
            _require(404, client, endpoint, method, path, None)
    for method in ("POST", *_METHODS[1:]):
        _require(404, client, endpoint, method, MODELS, {} if method == "POST" else None)


@check(GATEWAY, title="speaks nothing but TLS")
def tls_only(client: Client, endpoint: Endpoint, questions: Questions) -> None:
    """A client that was told http:// by mistake must fail, not send its key for everybody to read."""
    if not endpoint.encrypted:
        raise NotRun("gateway_plain_http is set: keys, questions and answers can be read on their way")
    host, port = endpoint.address
    try:
        got = raw.plain((host, port), f"GET {MODELS} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n", SHUT_SECONDS)
    except OSError:  # neither an answer nor an end
        return
    if got.startswith(b"HTTP/"):
        raise Wrong(
            "no answer to plain HTTP",
            f"{client.excerpt(got.decode('utf-8', 'replace'))} from http://{host}:{port}",
            "something before the gateway takes both, HTTP and TLS, on this port",
        )


@check(GATEWAY, title="is the only way to the servers: their own ports are shut")
def server_ports_shut(client: Client, endpoint: Endpoint, questions: Questions) -> None:
    """vLLM's own API key leaves /rerank, /score, /metrics and more open; only a shut port keeps them."""
    if not endpoint.instances:
        raise NotRun("no ports of servers were declared")
    with ThreadPoolExecutor(min(len(endpoint.instances), MANY)) as pool:
        found = list(pool.map(lambda one: raw.listens((one.address, one.port), SHUT_SECONDS), endpoint.instances))
    reached = [one for one, listens in zip(endpoint.instances, found, strict=True) if listens]
    admitted = any(map(raw.is_own, endpoint.gateway_addresses))
    wrong = [one for one in reached if not admitted and not raw.is_own(one.address)]
    if wrong:
        raise Wrong(
            "no connection to the port of any server",
            ", ".join(f"{one.address}:{one.port} ({one.server} on {one.host}) takes connections" for one in wrong),
            f"model_server_bind_address is wider than loopback, and the firewall of {wrong[0].host} does not keep the "
            f"port for gateways: run site.yml again, and `systemctl status {wrong[0].unit}` there",
        )
    if reached:
        doors = ", ".join(f"{one.address}:{one.port}" for one in reached)
        raise NotRun(f"{doors}: open to this machine, which is the server's or a gateway's own; ask from another one")


def _require(
    status: int,
    client: Client,
    endpoint: Endpoint,
    method: str,
    target: str,
    body: Mapping[str, Any] | None,
    what: str = "with the right key",
    headers: Mapping[str, str | None] | None = None,
) -> None:
    """Require that a request gets this status; `what` says what the `headers` hold in place of the key's."""
    answer = client.raw(method, target, body if method == "POST" else None, headers)
    if answer.status != status:
        raise Wrong(
            f"HTTP {status} {what}",
            f"HTTP {answer.status} {what} from {client.where(method, target)}: {client.excerpt(answer.text)}",
            cause(endpoint, answer, _OPEN),
        )


def _everything(endpoint: Endpoint) -> Iterator[tuple[str, str, Mapping[str, Any] | None]]:
    """Every request that there could be: method, path and body."""
    yield "GET", MODELS, None
    for server in endpoint.served:
        yield "GET", f"{server.path}{MODELS}", None
        for path, body in REQUESTS[server.kind].items():
            yield "POST", path, {**body, "model": server.model}
            yield "POST", f"{server.path}{path}", {**body, "model": server.model}
    for path in (*OPERATIONS, *_NOWHERE):
        yield "GET", path, None


def _nearly(key: str) -> Iterator[tuple[str, str]]:
    """Headers that are not the key, though they could pass for it."""
    yield "with an empty Authorization header", ""
    yield "with a Bearer that says nothing", "Bearer "
    yield "with a key that has no Bearer before it", key
    yield "with the key as a password", f"Basic {base64.b64encode(f'{key}:{key}'.encode()).decode()}"
    yield "with a key that has something behind it", f"Bearer {key}x"
    # What is kept of a key at the gateway must not open it.
    for digest in (hashlib.sha256(key.encode()).hexdigest(), hashlib.sha256(key.encode()).hexdigest().upper()):
        yield "with the hash of the key", f"Bearer {digest}"


def _writings(path: str, server: str) -> Iterator[str]:
    """`path` as others may read it, but not as it is written; `server` is a server's own path."""
    head, _, last = path.rpartition("/")
    yield f"/{path}"
    yield f"{head}//{last}" if head else f"{path}//"
    yield f"/.{path}"
    yield f"/v1/..{path}"
    yield f"{server}/..{path}"
    yield f"{server}/../..{path}"
    yield f"{path}/"
    yield f"{path}/."
    yield f"{path};a=b"
    yield f"{path}%20"
    yield f"{path}%00"
    yield f"{head}/%{ord(last[0]):x}{last[1:]}"
    yield f"{head}%2F{last}" if head else f"/%2F{last}"
    yield path.upper()
