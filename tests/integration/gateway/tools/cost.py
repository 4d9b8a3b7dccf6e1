"""Ask a model server directly and through its gateway, in turn, and tell what each took.

Input: door, direct (address and port of the server), path, body, pairs, at_once, seconds.
Output: milliseconds, a list for each of direct, gateway and new; per_second, a list for each of direct and gateway, one
number for each round. The milliseconds of direct and gateway are pairs. New: a connection of its own for each request.
"""

from __future__ import annotations

import contextlib
import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from wire import Door, hear, request, task, tell

ROUNDS = 4


def timed(sock: socket.socket, raw: bytes) -> float:
    """Return the milliseconds until an answer with 200 was whole."""
    began = time.perf_counter()
    sock.sendall(raw)
    heard = hear(sock, silence=60, wanted=1, linger=0)
    spent = (time.perf_counter() - began) * 1000
    if not heard.answers or heard.answers[0].status != 200:
        raise RuntimeError(f"no answer with 200: {heard.brief()}")
    return round(spent, 4)


def fresh(door: Door, raw: bytes) -> float:
    """The same, with a connection that has to be opened first."""
    began = time.perf_counter()
    with door.connect() as sock:
        timed(sock, raw)
    return round((time.perf_counter() - began) * 1000, 4)


def in_pairs(doors: dict[str, Door], raws: dict[str, bytes], pairs: int) -> dict[str, list[float]]:
    """Ask each in turn on a kept connection; which is first changes from pair to pair."""
    kept = {name: door.connect() for name, door in doors.items()}
    found: dict[str, list[float]] = {name: [] for name in (*doors, "new")}
    for name, sock in kept.items():
        for _ in range(20):
            timed(sock, raws[name])
    for number in range(pairs):
        names = list(doors) if number % 2 else list(reversed(doors))
        for name in names:
            found[name].append(timed(kept[name], raws[name]))
        if number % 5 == 0:
            found["new"].append(fresh(doors["gateway"], raws["gateway"]))
    for sock in kept.values():
        sock.close()
    return found


def throughput(door: Door, raw: bytes, at_once: int, seconds: float) -> float:
    """Return answers per second on so many connections, which are open and in use before the time counts."""
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(door.connect()) for _ in range(at_once)]
        for sock in socks:
            timed(sock, raw)
        began = time.perf_counter()

        def lane(sock: socket.socket) -> int:
            answered = 0
            while time.perf_counter() < began + seconds:
                timed(sock, raw)
                answered += 1
            return answered

        with ThreadPoolExecutor(at_once) as pool:
            answered = sum(pool.map(lane, socks))
        return round(answered / (time.perf_counter() - began), 2)


def main() -> None:
    door, given = task()
    address, port = given["direct"]
    doors = {"direct": Door(address, port, None, door.key), "gateway": door}
    body = json.dumps(given["body"]).encode()
    raws = {name: request(one, "POST", given["path"], door.key, body) for name, one in doors.items()}
    milliseconds: dict[str, Any] = in_pairs(doors, raws, given["pairs"])
    per_second: dict[str, list[float]] = {name: [] for name in doors}
    for number in range(ROUNDS):
        for name in list(doors) if number % 2 else list(reversed(doors)):
            per_second[name].append(throughput(doors[name], raws[name], given["at_once"], given["seconds"]))
    tell({"milliseconds": milliseconds, "per_second": per_second})


if __name__ == "__main__":
    main()
