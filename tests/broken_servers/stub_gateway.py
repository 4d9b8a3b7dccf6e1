"""A stub that answers as a gateway does, with two language models, an embedding server and a reranker behind it."""

from __future__ import annotations

import contextlib
import datetime
import functools
import ipaddress
import json
import re
import socket
import ssl
import sys
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.broken_servers.stub import MAX_MODEL_LEN, Json, Stub, right, unchanged
from vllm_fleet.verify.endpoint import GATEWAY, Endpoint, Instance, Served

KEY = "key-of-the-gateway"
KINDS_OF_SERVERS = {"llm": "llm", "coder": "llm", "embedding": "embedding", "rerank": "rerank"}
SHARED = {
    "llm": ("/v1/chat/completions", "/v1/completions", "/v1/responses"),
    "embedding": ("/v1/embeddings",),
    "rerank": ("/rerank", "/v1/rerank", "/v2/rerank", "/score", "/v1/score"),
}
STUBS = {name: Stub(kind, f"tiny-{name}", right, unchanged) for name, kind in KINDS_OF_SERVERS.items()}
TIMEOUT = 20.0


@dataclass(frozen=True)
class Asked:
    """A request: its target as it was written, its body, and the path that a program reads in the target."""

    method: str
    target: str
    authorization: str | None
    chunked: bool
    body: Json

    @property
    def path(self) -> str:
        """Without query, and without scheme and host."""
        return re.sub(r"^https?://[^/]*", "", self.target).partition("?")[0]


@dataclass(frozen=True)
class Said:
    """An answer; its text is sent as it is, where there is one."""

    status: int
    body: Any
    headers: Mapping[str, str] = field(default_factory=dict)
    text: str | None = None


Fault = Callable[[Asked, Said], Said]


def healthy(asked: Asked, said: Said) -> Said:
    """No fault."""
    return said


def refusal(status: int, code: str, message: str) -> Said:
    """An error in the gateway's form."""
    request_id = str(uuid.uuid4())
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": code, "request_id": request_id}
    return Said(status, {"error": error}, {"x-request-id": request_id})


def answer(asked: Asked) -> Said:
    """What a healthy gateway answers."""
    if asked.authorization != f"Bearer {KEY}":
        return refusal(401, "invalid_api_key", "The API key is missing or not known.")
    return authorized(asked, asked.path)


def authorized(asked: Asked, path: str) -> Said:
    """What it answers to somebody with a key who asks for this path."""
    if (asked.method, path) == ("GET", "/v1/models"):
        return passed_on({"object": "list", "data": [STUBS[name].models().body["data"][0] for name in STUBS]})
    name, own = _server(path)
    if name and (asked.method, own) == ("GET", "/v1/models"):
        return passed_on(STUBS[name].models().body)
    kinds = [KINDS_OF_SERVERS[name]] if name else list(SHARED)
    kind = next((one for one in kinds if own in SHARED[one]), None)
    if name and (KINDS_OF_SERVERS[name], own) == ("rerank", "/classify"):
        kind = "rerank"
    if asked.method != "POST" or kind is None:
        return refusal(404, "unknown_url", "There is nothing here.")
    if asked.chunked:
        return refusal(411, "length_required", "The request says no length of its body.")
    return of_server(kind, own, asked.body, name)


def of_server(kind: str, path: str, body: Json, name: str | None = None) -> Said:
    """The answer of the server `name`, or of that of the kind whose model is asked for."""
    of_kind = {one: stub for one, stub in STUBS.items() if KINDS_OF_SERVERS[one] == kind and name in (None, one)}
    stub = next((one for one in of_kind.values() if one.model == body.get("model")), None)
    if stub is None:
        known = ", ".join(one.model for one in of_kind.values())
        return refusal(404, "model_not_found", f"There is no such model here. Known: {known}.")
    if path in ("/v1/completions", "/v1/responses"):
        return passed_on({"object": "text_completion", "model": stub.model})
    said = stub.answer("/v1/rerank" if path == "/v2/rerank" else path, body)
    return passed_on(said.body, said.status)


def passed_on(body: Any, status: int = 200) -> Said:
    """An answer of vLLM."""
    return Said(status, body, {"x-request-id": str(uuid.uuid4())})


def _server(path: str) -> tuple[str | None, str]:
    """The server whose base URL a path begins with, and the rest."""
    found = re.fullmatch(r"/servers/([a-z]+)(/.*)", path)
    return (found[1], found[2]) if found and found[1] in STUBS else (None, path)


@functools.cache
def _directory() -> tempfile.TemporaryDirectory[str]:
    """Goes with the process."""
    return tempfile.TemporaryDirectory(prefix="vllm-fleet-stub-")


@functools.cache
def certificate(address: str) -> str:
    """The file of a certificate for an address that vouches for itself, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "stub gateway")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file = Path(_directory().name, f"{address}.pem")
    file.write_bytes(secret + made.public_bytes(serialization.Encoding.PEM))
    return str(file)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    tls: ssl.SSLContext | None = None
    takes_both = False

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = self.socket.accept()
        if self.tls is None or (self.takes_both and connection.recv(1, socket.MSG_PEEK) != b"\x16"):
            return connection, address
        # The handshake is left to the request's own thread.
        return self.tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False), address

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), OSError):  # also where somebody speaks no TLS
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    fault: Fault

    def _answer(self) -> None:
        length = int(self.headers["Content-Length"] or 0)
        target = self.requestline.split(" ")[1]  # self.path is without double slashes
        asked = Asked(
            self.command,
            target,
            self.headers["Authorization"],
            "chunked" in (self.headers["Transfer-Encoding"] or ""),
            json.loads(self.rfile.read(length)) if length else {},
        )
        said = type(self).fault(asked, answer(asked))
        text = json.dumps(said.body) if said.text is None else said.text
        self.send_response(said.status)
        for name, value in {"Content-Type": "application/json", "Connection": "close", **said.headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text.encode())

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _answer  # noqa: N815 - the base's names

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextlib.contextmanager
def serving_gateway(
    fault: Fault = healthy,
    *,
    encrypted: bool = True,
    certified: str = "127.0.0.1",
    takes_both: bool = False,
    ports_open: bool = False,
    **declared: Any,
) -> Iterator[Endpoint]:
    """Serve a stub on a loopback port, and give the endpoint as it is declared.

    Args:
        fault: rewrites the answers.
        encrypted: whether it speaks TLS.
        certified: the address in its certificate.
        takes_both: whether it speaks plain HTTP on the same port, too.
        ports_open: whether somebody listens on the servers' own ports.
        declared: other fields of the endpoint.
    """
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"fault": staticmethod(fault)}))
    server.takes_both = takes_both
    if encrypted:
        server.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.tls.load_cert_chain(certificate(certified))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    doors = [socket.create_server(("127.0.0.1", 0)) for _ in KINDS_OF_SERVERS]
    ports = [door.getsockname()[1] for door in doors]
    if not ports_open:
        for door in doors:
            door.close()
    base = f"{'https' if encrypted else 'http'}://127.0.0.1:{server.server_port}"
    fields: Mapping[str, Any] = {
        "name": "gateway",
        "host": "stub-host",
        "unit": "vllm-gateway.service",
        "kind": GATEWAY,
        "base_url": base,
        "api_key": KEY,
        "ca_file": certificate(certified) if encrypted else None,
        "served": tuple(
            Served(name, kind, f"tiny-{name}", f"{base}/servers/{name}", MAX_MODEL_LEN)
            for name, kind in KINDS_OF_SERVERS.items()
        ),
        "instances": tuple(
            Instance(name, "stub-host", f"vllm-{name}.service", "127.0.0.1", port)
            for name, port in zip(KINDS_OF_SERVERS, ports, strict=True)
        ),
        "gateway_addresses": ("127.0.0.1",),
        **declared,
    }
    try:
        yield Endpoint(**fields)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
        for door in doors:
            door.close()
