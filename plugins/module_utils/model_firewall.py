"""The nftables table that admits only gateways to the ports of model servers. Python 3.8, standard library only."""

from __future__ import annotations

import ipaddress

TABLE = ("inet", "vllm_fleet")
# Only the packet that opens a connection is refused. So replies to what the host itself asks from such a port, while no
# server holds it, come through, and no connections need to be tracked; those that are open already go on.
_RULES = """\
table {table}
delete table {table}
table {table} {{
	set admitted {{
		type ipv4_addr
		flags interval{ipv4}
	}}
	set admitted6 {{
		type ipv6_addr
		flags interval{ipv6}
	}}
	chain input {{
		type filter hook input priority filter; policy accept;
		iif "lo" accept
		meta l4proto != tcp accept
		tcp dport != {{ {ports} }} accept
		tcp flags & (syn | ack) != syn accept
		ip saddr @admitted accept
		ip6 saddr @admitted6 accept
		counter reject with tcp reset
	}}
}}
"""


def ruleset(ports, networks):
    """Return what nft reads to put this table, and only this one, in the place of a former one, all at once.

    Args:
        ports: of the model servers.
        networks: who is admitted, as addresses and networks of both families.
    """
    parsed = [ipaddress.ip_network(one, strict=False) for one in networks]
    return _RULES.format(
        table=" ".join(TABLE),
        ports=", ".join(str(port) for port in sorted(set(ports))),
        ipv4=_elements(one for one in parsed if one.version == 4),
        ipv6=_elements(one for one in parsed if one.version == 6),
    )


def _elements(networks):
    """Return the line of a set's elements; nft refuses networks that overlap, and an empty list."""
    shown = [
        str(one.network_address) if one.prefixlen == one.max_prefixlen else str(one)
        for one in ipaddress.collapse_addresses(networks)
    ]
    return "\n\t\telements = {{ {} }}".format(", ".join(shown)) if shown else ""


def admitted(wanted, resolve):
    """Return (networks, reasons): whom the names, addresses and networks in `wanted` mean, and which mean nobody.

    Args:
        wanted: what may be admitted, by a name for messages.
        resolve: returns the addresses of a host's name, none where it is not known.
    """
    networks, reasons = [], []
    for name, entry in wanted.items():
        try:
            found = [str(ipaddress.ip_network(entry, strict=False))]
        except ValueError:
            found = resolve(entry)
        if not found:
            reasons.append(f"{name}: this host does not know the name {entry}")
        elif any(ipaddress.ip_network(one, strict=False).is_loopback for one in found):
            reasons.append(f"{name}: {entry} is a loopback address, from which nobody comes to another host")
        networks += found
    return networks, reasons
