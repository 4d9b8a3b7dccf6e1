"""Send HTTP/2 requests that no library would send, each on a connection of its own.

Input: door, cases (name -> {"fields": [[name, value], ...], "body": text, "trailers": [[name, value], ...]}).
Output: name -> {"status", "code", "shaped", "ended"}; ended is answered, reset N, goaway N, closed or silent.
"""

from __future__ import annotations

import json
import socket
import ssl
import struct
from typing import Any

from wire import SILENCE_SECONDS, Door, all_at_once, task, tell

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, CONTINUATION = 0, 1, 3, 4, 6, 7, 9
END_STREAM, END_HEADERS, ACK = 1, 4, 1
FRAME_BYTES = 16384
# RFC 7541, appendix A: entries of the static table that stand for a whole status.
STATUSES = {8: 200, 9: 204, 10: 206, 11: 304, 12: 400, 13: 404, 14: 500}


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def literal(text: str) -> bytes:
    """Return a string of HPACK, not Huffman-coded (RFC 7541, 5.2)."""
    data = text.encode("latin-1")
    if len(data) < 127:
        return bytes([len(data)]) + data
    head, rest = bytes([127]), len(data) - 127
    while rest >= 128:
        head, rest = head + bytes([rest % 128 + 128]), rest // 128
    return head + bytes([rest]) + data


def header_frames(stream: int, fields: list[list[str]], end: bool) -> bytes:
    """Return a block of header fields, in as many frames as it takes."""
    block = b"".join(b"\x00" + literal(name) + literal(value) for name, value in fields)
    parts = [block[at : at + FRAME_BYTES] for at in range(0, len(block), FRAME_BYTES)] or [b""]
    sent = b""
    for number, part in enumerate(parts):
        kind = CONTINUATION if number else HEADERS
        flags = (END_HEADERS if number == len(parts) - 1 else 0) | (END_STREAM if end and not number else 0)
        sent += frame(kind, flags, stream, part)
    return sent


def message(case: dict[str, Any]) -> bytes:
    body, trailers = case.get("body", "").encode("latin-1"), case.get("trailers", [])
    sent = header_frames(1, case["fields"], end=not body and not trailers)
    if body:
        sent += frame(DATA, 0 if trailers else END_STREAM, 1, body)
    if trailers:
        sent += header_frames(1, trailers, end=True)
    return sent


def status_of(block: bytes) -> int:
    """Return the status, which comes first in a block of an answer; 0 where it is coded in another way."""
    if block and block[0] & 0x80:
        return STATUSES.get(block[0] & 0x7F, 0)
    return int(block[2:5]) if block[:2] == b"\x08\x03" else 0


def read_frame(sock: socket.socket) -> tuple[int, int, int, bytes]:
    head = read(sock, 9)
    kind, flags, stream = struct.unpack(">BBI", head[3:])
    return kind, flags, stream, read(sock, int.from_bytes(head[:3], "big"))


def read(sock: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        piece = sock.recv(length - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data


def play(door: Door, case: dict[str, Any]) -> dict[str, Any]:
    """Send one request; return what came back for it."""
    status, body, ended = 0, b"", ""
    with door.connect(alpn=("h2",)) as sock:
        sock.settimeout(SILENCE_SECONDS)
        try:
            sock.sendall(PREFACE + frame(SETTINGS, 0, 0) + message(case))
            while not ended:
                kind, flags, stream, payload = read_frame(sock)
                if kind == SETTINGS and not flags & ACK:
                    sock.sendall(frame(SETTINGS, ACK, 0))
                elif kind == GOAWAY:
                    ended = f"goaway {int.from_bytes(payload[4:8], 'big')}"
                elif stream == 1 and kind == RST_STREAM:
                    ended = f"reset {int.from_bytes(payload, 'big')}"
                elif stream == 1 and kind == HEADERS and not status:
                    status = status_of(payload)
                elif stream == 1 and kind == DATA:
                    body += payload
                if not ended and stream == 1 and kind in (HEADERS, DATA) and flags & END_STREAM:
                    ended = "answered"
        except TimeoutError:
            ended = "silent"
        except (EOFError, ssl.SSLError, OSError):
            ended = "closed"
    return {"status": status, "ended": ended, **shape(body)}


def shape(body: bytes) -> dict[str, Any]:
    """Return the code of an error, and whether the body has OpenAI's shape."""
    try:
        error = json.loads(body)["error"]
        return {"code": error["code"], "shaped": bool(error["message"] and error["type"] and error["request_id"])}
    except (ValueError, KeyError, TypeError):
        return {"code": None, "shaped": False}


def main() -> None:
    door, given = task()
    cases: dict[str, Any] = given["cases"]
    tell(dict(zip(cases, all_at_once(lambda case: play(door, case), list(cases.values()), 64), strict=True)))


if __name__ == "__main__":
    main()
