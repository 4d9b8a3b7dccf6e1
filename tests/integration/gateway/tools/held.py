"""Begin streams, read nothing more until told so, then read them to their ends: they are under way as long as it takes.

Input: door, path, body, at_once. A line "begun" goes to the standard output once each has its first bytes; a line over
the standard input has them read. Output: for each whether it was whole.
"""

from __future__ import annotations

import json
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from wire import Door, request, task, tell

# So that most of a stream has to wait in the gateway.
BUFFER_BYTES = 4096


def begin(door: Door, given: dict[str, Any]) -> tuple[socket.socket, bytes]:
    """Send a request and read the first bytes of its answer."""
    sock = door.connect(timeout=60)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
    sock.sendall(request(door, "POST", given["path"], door.key, json.dumps(given["body"]).encode()))
    return sock, sock.recv(BUFFER_BYTES)


def end(sock: socket.socket, data: bytes) -> bool:
    """Read to the end of the chunked answer; return whether it came."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    try:
        while b"data: [DONE]" not in data[-200:] or not data.endswith(b"0\r\n\r\n"):
            more = sock.recv(65536)
            if not more:
                return False
            data += more
    except OSError:
        return False
    return data.startswith(b"HTTP/1.1 200")


def main() -> None:
    door, given = task()
    streams = [begin(door, given) for _ in range(given["at_once"])]
    print("begun", flush=True)
    sys.stdin.readline()
    with ThreadPoolExecutor(len(streams)) as pool:
        tell(list(pool.map(end, *zip(*streams, strict=True))))


if __name__ == "__main__":
    main()
