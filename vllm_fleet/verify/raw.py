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


class RawConnection:
    """Requests to one endpoint on one connection, as long as the other side keeps it; one thread at a time."""

    def __init__(self, endpoint: Endpoint, timeout: float) -> None:
        """Open nothing yet; `timeout` is in seconds, for each step."""
        self._endpoint, self._timeout = endpoint, timeout
        self._kept: http.client.HTTPConnection | None = None

    def send(
        self, method: str, target: str, body: Mapping[str, Any] | None, headers: Mapping[str, str | None]
    ) -> RawAnswer:
        """Send one request.

        Args:
            method: of HTTP.
            target: what stands behind the method, untouched.
            body: sent as JSON, and in one chunk where `headers` say so.
            headers: beside the API key's, or in its place; one that is None is left out.

        Raises:
            OSError, http.client.HTTPException: there was no answer.
        """
        key = self._endpoint.api_key
        sent: dict[str, str | None] = {"Authorization": f"Bearer {key}" if key else None}
        content = None if body is None else json.dumps(body).encode()
        if content is not None:
            sent["Content-Type"] = "application/json"
            if headers.get("Transfer-Encoding") == "chunked":
                content = b"%x\r\n%s\r\n0\r\n\r\n" % (len(content), content)
            else:
                sent["Content-Length"] = str(len(content))
        used = self._kept is not None and self._kept.sock is not None
        try:
            return self._exchange(method, target, content, {**sent, **headers})
        except TimeoutError:
            raise
        except (OSError, http.client.HTTPException):
            if not used:
                raise
            # The other side may have hung up after its last answer.
            return self._exchange(method, target, content, {**sent, **headers})

    def close(self) -> None:
        """Hang up."""
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    def _opened(self) -> http.client.HTTPConnection:
        host, port = self._endpoint.address
        if not self._endpoint.encrypted:
            return http.client.HTTPConnection(host, port, timeout=self._timeout)
        trusted = _trusting(authorities(self._endpoint) or certifi.where())
        return http.client.HTTPSConnection(host, port, timeout=self._timeout, context=trusted)

    def _exchange(
        self, method: str, target: str, content: bytes | None, headers: Mapping[str, str | None]
    ) -> RawAnswer:
        connection = self._kept = self._kept or self._opened()
        try:
            connection.putrequest(method, target, skip_accept_encoding=True)
            for name, value in headers.items():
                if value is not None:
                    connection.putheader(name, value)
            connection.endheaders(content)
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return RawAnswer(answer.status, found, answer.read().decode("utf-8", "replace"))
        except BaseException:
            self.close()
            raise


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
