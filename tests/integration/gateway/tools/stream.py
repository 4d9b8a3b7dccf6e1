"""Ask for answers that come in pieces, several at once, and tell when each piece came.

Input: door, path, body, at_once. Optional: hang_up (so many seconds after its first piece the connection is closed),
key, wait (after so many seconds without a piece as well). A line "begun" goes to the standard output once each has its
first piece, or its end. Output: for each: status, code, shaped, retry_after, whole, error, at (seconds after the
request, one for each read), body.
"""

from __future__ import annotations

import json
import socket
import ssl
import sys
import threading
import time
from typing import Any

from wire import Door, error_of, parse, request, task, tell


def play(door: Door, given: dict[str, Any], begun: threading.Semaphore) -> dict[str, Any]:
    """Have one answer, and return how it came."""
    raw = request(door, "POST", given["path"], given.get("key", door.key), json.dumps(given["body"]).encode())
    at: list[float] = []
    data, error = b"", ""
    try:
        with door.connect() as sock:
            started = time.monotonic()
            sock.sendall(raw)
            while piece := _read(sock, started + at[0] if at else None, given):
                data += piece
                at.append(round(time.monotonic() - started, 4))
                if len(at) == 1:
                    begun.release()
                if _over(data):
                    break
    except (ssl.SSLError, OSError) as caught:
        error = repr(caught)
    if not at:
        begun.release()
    answers, _ = parse(data)
    answer = answers[0] if answers else None
    body = answer.body if answer else b""
    return {
        "status": answer.status if answer else 0,
        "retry_after": answer.headers.get("retry-after") if answer else None,
        "whole": bool(answer and answer.whole),
        "error": error,
        "at": at,
        "body": body.decode(errors="replace"),
        **error_of(answer.headers if answer else {}, body),
    }


def _read(sock: socket.socket, first: float | None, given: dict[str, Any]) -> bytes:
    """Return what comes next, nothing at the end or when it is time to hang up; ``first``: when the first one came."""
    if "hang_up" not in given or first is None:
        sock.settimeout(given.get("wait", 120))
        return sock.recv(65536)
    # Where more is there already, a time-out alone would never come.
    left = first + given["hang_up"] - time.monotonic()
    if left <= 0:
        return b""
    sock.settimeout(left)
    try:
        return sock.recv(65536)
    except TimeoutError:
        return b""


def _over(data: bytes) -> bool:
    """Whether an answer is whole; looked at closely only where it may be, since it comes in thousands of pieces."""
    head, _, _ = data[:8192].partition(b"\r\n\r\n")
    if b"chunked" in head.lower():
        return data.endswith(b"\r\n0\r\n\r\n")
    answers, _ = parse(data)
    return bool(answers and answers[0].whole and "content-length" in answers[0].headers)


def main() -> None:
    door, given = task()
    begun = threading.Semaphore(0)
    found: list[Any] = [None] * given["at_once"]

    def one(number: int) -> None:
        found[number] = play(door, given, begun)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(given["at_once"])]
    for thread in threads:
        thread.start()
    for _ in threads:
        begun.acquire()
    print("begun", flush=True)
    for thread in threads:
        thread.join()
    tell(found)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
