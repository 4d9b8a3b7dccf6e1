"""Send one request again and again, from several connections at once, and tell how each was answered and how quickly.

Input: door, path, body (an object, null for GET), at_once, and either seconds, or count for each connection, or
neither: then until a line comes over the standard input. Optional: pause (seconds between requests of a connection, or
a list, one for each), kept (false: a connection for each request), key, wait (seconds an answer may take).
Output: statuses {status: how many}, codes of errors, retry_after, failures, milliseconds of each answer that was 200, a
new connection included.
"""

from __future__ import annotations

import json
import select
import socket
import ssl
import sys
import threading
import time
from collections import Counter
from typing import Any

from wire import Door, hear, request, task, tell


class Tally:
    """What all connections found."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.statuses: Counter[int] = Counter()
        self.codes: Counter[str] = Counter()
        self.retry_after: Counter[str] = Counter()
        self.unshaped = 0
        self.failures: list[str] = []
        self.milliseconds: list[float] = []

    def as_dict(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "lock"}


def ask(sock: socket.socket, raw: bytes, began: float, wait: float, tally: Tally) -> bool:
    """Ask once; return whether the connection can be used again. The time since ``began`` counts."""
    sock.sendall(raw)
    heard = hear(sock, silence=wait, wanted=1, linger=0)
    spent = (time.monotonic() - began) * 1000
    with tally.lock:
        if not heard.answers or not heard.answers[0].whole:
            tally.failures.append(f"{heard.ended} after {spent:.0f} ms")
            return False
        answer = heard.answers[0]
        tally.statuses[answer.status] += 1
        if answer.status == 200:
            tally.milliseconds.append(round(spent, 3))
        else:
            found = answer.brief()
            tally.codes[found["code"]] += 1
            tally.unshaped += not found["shaped"]
            tally.retry_after[answer.headers.get("retry-after", "")] += 1
        return answer.headers.get("connection", "").lower() != "close" and heard.ended == "silent"


def closed(sock: socket.socket) -> bool:
    """Whether the other side has closed an unused connection: what every client looks at before it uses one again."""
    return bool(select.select([sock], [], [], 0)[0])


def lane(door: Door, given: dict[str, Any], number: int, over: threading.Event, tally: Tally) -> None:
    """Ask on one connection, opened again where it was closed."""
    body = b"" if given.get("body") is None else json.dumps(given["body"]).encode()
    raw = request(door, "POST" if body else "GET", given["path"], given.get("key", door.key), body)
    pauses = given.get("pause", 0)
    pause = pauses[number] if isinstance(pauses, list) else pauses
    sock: socket.socket | None = None
    asked = 0
    while not over.is_set() and asked != given.get("count", -1):
        try:
            if sock and closed(sock):
                sock.close()
                sock = None
            began = time.monotonic()
            sock = sock or door.connect(timeout=given.get("wait", 30))
            usable = ask(sock, raw, began, given.get("wait", 30), tally)
        except (ssl.SSLError, OSError) as error:
            usable = False
            with tally.lock:
                tally.failures.append(repr(error))
        asked += 1
        if sock and not (usable and given.get("kept", True)):
            sock.close()
            sock = None
        if pause and asked != given.get("count", -1):
            over.wait(pause)
    if sock:
        sock.close()


def main() -> None:
    door, given = task()
    over, tally = threading.Event(), Tally()
    lanes = [
        threading.Thread(target=lane, args=(door, given, number, over, tally)) for number in range(given["at_once"])
    ]
    for one in lanes:
        one.start()
    if "seconds" in given:
        over.wait(given["seconds"])
        over.set()
    elif "count" not in given:
        sys.stdin.readline()
        over.set()
    for one in lanes:
        one.join()
    tell(tally.as_dict())


if __name__ == "__main__":
    main()
