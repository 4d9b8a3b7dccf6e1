"""Tell the digest of the certificate that a gateway shows.

Input: door. Output: {"certificate": SHA-256, "names": what it is for}.
"""

from __future__ import annotations

import hashlib
import ssl

from wire import task, tell


def main() -> None:
    door, _ = task()
    with door.connect() as sock:
        assert isinstance(sock, ssl.SSLSocket)
        shown = sock.getpeercert(binary_form=True) or b""
        names = (sock.getpeercert() or {}).get("subjectAltName", ())
    tell({"certificate": hashlib.sha256(shown).hexdigest(), "names": [name for _, name in names]})


if __name__ == "__main__":
    main()
