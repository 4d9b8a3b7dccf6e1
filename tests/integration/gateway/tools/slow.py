"""Occupy a gateway: many connections that say nothing, or something so slowly that it never ends.

Input: door, kind, connections, seconds between two bytes. Kinds: idle (TLS, then nothing), handshake (TCP, then
nothing), headers (one byte of a header at a time), body (one byte of a body at a time, with ``authorization``: header
lines, and ``length``), reader (an answer to ``body`` at ``path`` that is never read). Runs until a line comes over the
standard input; "begun" goes to the standard output once all are there.
Output: {"opened": how many came to be, "closed": how many of them the gateway closed}.
"""

from __future__ import annotations

import socket
import ssl
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from wire import Door, request, task, tell


def start(door: Door, given: dict[str, Any]) -> socket.socket | None:
    """Open one connection and say the beginning, None where it is not taken."""
    kind, host = given["kind"], f"Host: {door.address}:{door.port}\r\n"
    try:
        if kind == "handshake":
            return socket.create_connection((door.address, door.port), timeout=20)
        sock = door.connect(timeout=20)
        if kind == "headers":
            sock.sendall(f"POST /rerank HTTP/1.1\r\n{host}X-A: ".encode())
        elif kind == "body":
            length = f"Content-Length: {given.get('length', 1000)}\r\n"
            sock.sendall(f"POST /rerank HTTP/1.1\r\n{host}{given['authorization']}{length}\r\n".encode())
        elif kind == "reader":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.sendall(request(door, "POST", given["path"], door.key, given["body"].encode()))
    except (ssl.SSLError, OSError):
        return None
    return sock


def dribble(sock: socket.socket) -> bool:
    """Say one byte more, and return whether the connection is still there."""
    try:
        sock.sendall(b"a")
    except (ssl.SSLError, OSError):
        return False
    return True


def main() -> None:
    door, given = task()
    over = threading.Event()
    with ThreadPoolExecutor(16) as pool:
        opened = [sock for sock in pool.map(lambda _: start(door, given), range(given["connections"])) if sock]
    print("begun", flush=True)

    def wait_for_the_end() -> None:
        sys.stdin.readline()
        over.set()

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    alive = list(opened)
    while not over.wait(given.get("seconds", 1)):
        if given["kind"] in ("headers", "body"):
            alive = [sock for sock in alive if dribble(sock)]
    tell({"opened": len(opened), "closed": len(opened) - len([sock for sock in alive if _open(sock)])})


def _open(sock: socket.socket) -> bool:
    """Whether the other side has not closed it."""
    try:
        sock.settimeout(0.001)
        while data := sock.recv(65536):
            if not data:
                return False
    except TimeoutError:
        return True
    except (ssl.SSLError, OSError):
        return False
    return False


if __name__ == "__main__":
    main()
