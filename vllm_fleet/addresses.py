"""Addresses of hosts."""

from __future__ import annotations

import ipaddress


def is_loopback(address: str) -> bool:
    """Whether an address or name is the host's own, which nobody else reaches."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"
