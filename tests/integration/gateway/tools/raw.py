"""Send byte strings that need not be HTTP, each on a connection of its own, and tell what came back.

Input: door, cases (name -> pieces). A piece is a text (Latin-1), a [text, times], or a number: seconds to wait.
Output: name -> what was heard, and the seconds until it was over.
"""

from __future__ import annotations

import ssl
from typing import Any

from wire import Door, all_at_once, hear, task, tell

BLOCK_BYTES = 1 << 16
# Most of the time is spent waiting for what does not come.
AT_ONCE = 64


def play(door: Door, pieces: list[Any]) -> dict[str, Any]:
    """Send the pieces until the other side has had enough; return what it said."""
    with door.connect() as sock:
        sent = 0
        try:
            for piece in pieces:
                if isinstance(piece, int | float):
                    sock.settimeout(piece)
                    heard = hear(sock, silence=piece, wanted=1)
                    if heard.answers or heard.ended != "silent":
                        return {**heard.brief(), "sent": sent, "early": True}
                    sock.settimeout(10)
                    continue
                data = (piece if isinstance(piece, str) else piece[0] * piece[1]).encode("latin-1")
                for start in range(0, len(data), BLOCK_BYTES):
                    sock.sendall(data[start : start + BLOCK_BYTES])
                    sent += len(data[start : start + BLOCK_BYTES])
        except (ssl.SSLError, OSError):
            pass  # it closed; what it said before can still be read
        return {**hear(sock).brief(), "sent": sent, "early": False}


def main() -> None:
    door, given = task()
    cases: dict[str, list[Any]] = given["cases"]
    tell(dict(zip(cases, all_at_once(lambda pieces: play(door, pieces), list(cases.values()), AT_ONCE), strict=True)))


if __name__ == "__main__":
    main()
