"""Plain bytes to and from a gateway: what the programs beside this file share.

They run on a host that has Python's standard library only. Each reads one JSON object from its standard input, the door
among it, and prints one.
"""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

# Silence after which nothing more is expected; answers come in milliseconds, those of a busy machine in seconds.
SILENCE_SECONDS = 3.0


@dataclass(frozen=True)
class Door:
    """Where a gateway listens, and a key it accepts. ``ca`` is PEM, None for plain HTTP."""

    address: str
    port: int
    ca: str | None
    key: str

    def connect(self, alpn: tuple[str, ...] = (), timeout: float = 10.0) -> socket.socket:
        """Open a connection; the certificate must be right. ``alpn``: what is offered for after the handshake."""
        plain = socket.create_connection((self.address, self.port), timeout=timeout)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.ca is None:
            return plain
        context = ssl.create_default_context(cadata=self.ca)
        if alpn:
            context.set_alpn_protocols(list(alpn))
        return context.wrap_socket(plain, server_hostname=self.address)

    @property
    def authorization(self) -> str:
        """The header field that opens."""
        return f"Authorization: Bearer {self.key}\r\n"


@dataclass
class Answer:
    """One HTTP/1.1 answer. ``whole`` is false where the connection ended within it."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    whole: bool = True

    def brief(self) -> dict[str, Any]:
        """Return what a test judges: the status, and whether an error has OpenAI's shape."""
        return {"status": self.status, **error_of(self.headers, self.body)}


def error_of(headers: dict[str, str], body: bytes) -> dict[str, Any]:
    """Return the error's code, and ``shaped``: it is as OpenAI writes errors, with the request id of its header."""
    try:
        error = json.loads(body)["error"]
        return {
            "code": error["code"],
            "shaped": bool(
                error["message"]
                and error["type"]
                and "param" in error
                and error["request_id"] == headers.get("x-request-id")
            ),
        }
    except (ValueError, KeyError, TypeError):
        return {"code": None, "shaped": False}


def parse(data: bytes, heads: int = 0) -> tuple[list[Answer], bytes]:
    """Split a stream into answers; ``heads``: how many of the first have no body, their requests being HEAD."""
    answers: list[Answer] = []
    while b"\r\n\r\n" in data:
        head, _, rest = data.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        words = lines[0].split(" ", 2)
        if not words[0].startswith("HTTP/1.") or len(words) < 2:
            break
        fields = (line.partition(":") for line in lines[1:])
        answer = Answer(int(words[1]), {name.strip().lower(): value.strip() for name, _, value in fields})
        answers.append(answer)
        if answer.status < 200 or answer.status in (204, 304) or len(answers) <= heads:
            data = rest
        elif "chunked" in answer.headers.get("transfer-encoding", ""):
            answer.body, data, answer.whole = _chunks(rest)
        elif "content-length" in answer.headers:
            length = int(answer.headers["content-length"])
            answer.body, data, answer.whole = rest[:length], rest[length:], len(rest) >= length
        else:
            answer.body, data = rest, b""
    return answers, data


def _chunks(data: bytes) -> tuple[bytes, bytes, bool]:
    """Return the body, what follows it, and whether its last chunk was seen."""
    body = b""
    while b"\r\n" in data:
        size, _, rest = data.partition(b"\r\n")
        length = int(size.split(b";")[0], 16)
        if length == 0:
            return body, rest.partition(b"\r\n")[2] if not rest.startswith(b"\r\n") else rest[2:], True
        body, data = body + rest[:length], rest[length + 2 :]
    return body, data, False


@dataclass(frozen=True)
class Heard:
    """What came back. ``ended`` is closed, reset or silent, ``rest`` what is no answer.

    ``seconds`` passed until the last of it came, not counting the silence after it.
    """

    answers: list[Answer]
    rest: bytes
    ended: str
    seconds: float

    def brief(self) -> dict[str, Any]:
        """Return what a test judges."""
        return {
            "answers": [answer.brief() for answer in self.answers],
            "rest": self.rest[:200].decode("latin-1"),
            "ended": self.ended,
            "seconds": round(self.seconds, 3),
        }


def hear(
    sock: socket.socket,
    silence: float = SILENCE_SECONDS,
    wanted: int | None = None,
    heads: int = 0,
    linger: float = 0.05,
) -> Heard:
    """Read until the other side closes, is silent, or ``wanted`` whole answers have come.

    What else comes within ``linger`` seconds of them is heard as well.
    """
    began, data, ended, last = time.monotonic(), b"", "closed", 0.0
    while True:
        answers, rest = parse(data, heads)
        full = wanted is not None and len(answers) >= wanted and answers[-1].whole
        if full and not linger:
            ended = "silent"
            break
        sock.settimeout(linger if full else silence)
        try:
            piece = sock.recv(65536)
        except TimeoutError:
            ended = "silent"
            break
        except (ssl.SSLError, OSError):
            ended = "reset"
            break
        if not piece:
            break
        data += piece
        last = time.monotonic() - began
    return Heard(answers, rest, ended, last)


def ask(door: Door, raw: bytes, silence: float = SILENCE_SECONDS, wanted: int | None = None, heads: int = 0) -> Heard:
    """Send bytes on a connection of their own and read what comes."""
    with door.connect() as sock:
        # Refused before the end, what was answered can still be read.
        with contextlib.suppress(OSError):
            sock.sendall(raw)
        return hear(sock, silence, wanted, heads)


def request(door: Door, method: str, target: str, key: str | None, body: bytes = b"", more: str = "") -> bytes:
    """Return a well-formed request; ``key`` None leaves the header away, ``more`` are whole further header lines."""
    lines = f"{method} {target} HTTP/1.1\r\nHost: {door.address}:{door.port}\r\n{more}"
    if key is not None:
        lines += f"Authorization: Bearer {key}\r\n"
    if body or method in ("POST", "PUT", "PATCH"):
        lines += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return lines.encode("latin-1") + b"\r\n" + body


def all_at_once(work: Any, cases: list[Any], at_once: int = 16) -> list[Any]:
    """Do the same with each case, several at a time, in the order of the cases."""
    with ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(work, cases))


def task() -> tuple[Door, dict[str, Any]]:
    """Read what to do from the first line of the standard input."""
    given = json.loads(sys.stdin.readline())
    return Door(**given.pop("door")), given


def tell(result: Any) -> None:
    """Print what was found."""
    json.dump(result, sys.stdout)
