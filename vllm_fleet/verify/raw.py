"""Requests that go out as they are written: `requests` tidies up paths, and would never send what an attacker sends."""

from __future__ import annotations

import contextlib
import functools
import http.client
import json
import os
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import certifi

from vllm_fleet.verify.endpoint import Endpoint


@dataclass(frozen=True)
class RawAnswer:
    """An HTTP answer, whatever its status; names of headers in small letters."""

    status: int
    headers: Mapping[str, str]
    text: str


def authorities(endpoint: Endpoint) -> str | None:
    """The file of certificates that are trusted for an endpoint; None means those that are usually trusted."""
    return endpoint.ca_file or os.environ.get("REQUESTS_CA_BUNDLE")


def send(
    endpoint: Endpoint,
    method: str,
    target: str,
    body: Mapping[str, Any] | None,
    headers: Mapping[str, str | None],
    timeout: float,
) -> RawAnswer:
    """Send one request on a connection of its own.

    Args:
        endpoint: whose address to connect to.
        method: of HTTP.
        target: what stands behind the method, untouched.
        body: sent as JSON, and in one chunk where `headers` say so.
        headers: beside the API key's, or in its place; one that is None is left out.
        timeout: seconds for each step.

    Raises:
        OSError, http.client.HTTPException: there was no answer.
    """
    own = {"Authorization": f"Bearer {endpoint.api_key}" if endpoint.api_key else None}
    content = None if body is None else json.dumps(body).encode()
    if content is not None:
        own["Content-Type"] = "application/json"
        if headers.get("Transfer-Encoding") == "chunked":
            content = b"%x\r\n%s\r\n0\r\n\r\n" % (len(content), content)
        else:
            own["Content-Length"] = str(len(content))
    host, port = endpoint.address
    if endpoint.encrypted:
        trusted = _trusting(authorities(endpoint) or certifi.where())
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            host, port, timeout=timeout, context=trusted
        )
    else:
        connection = http.client.HTTPConnection(host, port, timeout=timeout)
    with contextlib.closing(connection):
        connection.putrequest(method, target, skip_accept_encoding=True)
        for name, value in {**own, **headers}.items():
            if value is not None:
                connection.putheader(name, value)
        connection.endheaders(content)
        answer = connection.getresponse()
        found = {name.lower(): value for name, value in answer.getheaders()}
        return RawAnswer(answer.status, found, answer.read().decode("utf-8", "replace"))


@functools.cache
def _trusting(file: str) -> ssl.SSLContext:
    """Reading a file of certificates takes longer than a request."""
    return ssl.create_default_context(cafile=file)


def plain(address: tuple[str, int], text: str, timeout: float) -> bytes:
    """The first bytes that an address answers `text` with, sent without TLS; empty where it only hangs up.

    Raises:
        OSError: no connection, or neither an answer nor an end.
    """
    with socket.create_connection(address, timeout) as connection:
        try:
            connection.sendall(text.encode())
            return connection.recv(1024)
        except ConnectionError:
            return b""


def listens(address: tuple[str, int], timeout: float) -> bool:
    """Whether a connection can be made; one that is refused, dropped or led nowhere cannot."""
    try:
        socket.create_connection(address, timeout).close()
    except OSError:
        return False
    return True


def is_own(host: str) -> bool:
    """Whether an address or name is one of this machine's."""
    try:
        found = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)
    except OSError:
        return False
    for family, kind, protocol, _, address in found:
        with contextlib.suppress(OSError), socket.socket(family, kind, protocol) as probe:
            probe.bind(address)
            return True
    return False
