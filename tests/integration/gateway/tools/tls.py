"""Tell what the gateway's port says to those that speak no TLS, an old one, or do not know its authority.

Input: door. Output: {"plain": what plain HTTP is answered, "versions": {name: connected}, "unknown authority": ...}.
"""

from __future__ import annotations

import socket
import ssl
import warnings

from wire import Door, hear, task, tell

VERSIONS = {
    "TLSv1": ssl.TLSVersion.TLSv1,
    "TLSv1.1": ssl.TLSVersion.TLSv1_1,
    "TLSv1.2": ssl.TLSVersion.TLSv1_2,
    "TLSv1.3": ssl.TLSVersion.TLSv1_3,
}


def plain(door: Door) -> str:
    """Speak plain HTTP, with the right key."""
    with socket.create_connection((door.address, door.port), timeout=5) as sock:
        sock.sendall(f"GET /v1/models HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {door.key}\r\n\r\n".encode())
        return " ".join(str(answer.status) for answer in hear(sock).answers)


def connects(door: Door, version: ssl.TLSVersion) -> bool:
    """Offer one version only, with every cipher there is."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=door.ca)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = version
    context.set_ciphers("ALL:@SECLEVEL=0")
    try:
        with socket.create_connection((door.address, door.port), timeout=5) as sock:
            context.wrap_socket(sock, server_hostname=door.address).close()
    except (ssl.SSLError, OSError):
        return False
    return True


def unknown_authority(door: Door) -> str:
    try:
        with socket.create_connection((door.address, door.port), timeout=5) as sock:
            ssl.create_default_context().wrap_socket(sock, server_hostname=door.address).close()
    except ssl.SSLCertVerificationError:
        return "refused by the client"
    return "accepted by the client"


def main() -> None:
    door, _ = task()
    versions = {name: connects(door, version) for name, version in VERSIONS.items()}
    tell({"plain": plain(door), "versions": versions, "unknown authority": unknown_authority(door)})


if __name__ == "__main__":
    main()
