"""Try every combination of method, path and credentials, with well-formed requests on kept connections.

Input: door, methods, paths, credentials (name -> header lines to send, each ending in CRLF). Output: a list of
[method, path, credential, status, code, shaped].
"""

from __future__ import annotations

import itertools
from typing import Any

from wire import Door, all_at_once, hear, request, task, tell

BODY = b"{}"


def sweep(door: Door, tries: list[tuple[str, str, str]], credentials: dict[str, str]) -> list[list[Any]]:
    """Ask one after the other on one connection, which is opened again when the gateway has closed it."""
    found: list[list[Any]] = []
    sock = door.connect()
    for method, path, credential in tries:
        body = BODY if method in ("POST", "PUT", "PATCH") else b""
        raw = request(door, method, path, None, body, credentials[credential])
        for attempt in (1, 2):
            sock.sendall(raw)
            heard = hear(sock, wanted=1, heads=int(method == "HEAD"), linger=0)
            if heard.ended != "silent":
                sock.close()
                sock = door.connect()
            if heard.answers or attempt == 2:
                break
        answer = heard.answers[0].brief() if heard.answers else {"status": 0, "code": heard.ended, "shaped": False}
        found.append([method, path, credential, answer["status"], answer["code"], answer["shaped"]])
    sock.close()
    return found


def main() -> None:
    door, given = task()
    credentials: dict[str, str] = given["credentials"]
    tries = list(itertools.product(given["methods"], given["paths"], credentials))
    lanes = 4
    swept = all_at_once(lambda lane: sweep(door, tries[lane::lanes], credentials), list(range(lanes)), lanes)
    tell([one for lane in swept for one in lane])


if __name__ == "__main__":
    main()
