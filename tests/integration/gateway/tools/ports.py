"""Tell which TCP ports of an address take connections.

Input: door (not used), address, ports [first, last]. Output: {"open": [...], "unclear": how many answered nothing}.
"""

from __future__ import annotations

import errno
import select
import socket

from wire import task, tell

AT_ONCE = 1000
SECONDS = 3


def scan(address: str, ports: list[int]) -> tuple[list[int], int]:
    """Return the open ones, and how many neither took nor refused within the time."""
    opened: list[int] = []
    waiting: dict[int, tuple[socket.socket, int]] = {}
    poll = select.epoll()
    for port in ports:
        sock = socket.socket()
        sock.setblocking(False)
        if sock.connect_ex((address, port)) == errno.EINPROGRESS:
            waiting[sock.fileno()] = sock, port
            poll.register(sock, select.EPOLLOUT)
        else:
            sock.close()
    while waiting and (events := poll.poll(SECONDS)):
        for descriptor, _ in events:
            sock, port = waiting.pop(descriptor)
            poll.unregister(descriptor)
            if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
                opened.append(port)
            sock.close()
    for sock, _ in waiting.values():
        sock.close()
    return opened, len(waiting)


def main() -> None:
    _, given = task()
    first, last = given["ports"]
    opened, unclear = [], 0
    for start in range(first, last + 1, AT_ONCE):
        found, silent = scan(given["address"], list(range(start, min(start + AT_ONCE, last + 1))))
        opened += found
        unclear += silent
    tell({"open": sorted(opened), "unclear": unclear})


if __name__ == "__main__":
    main()
