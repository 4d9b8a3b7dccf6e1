"""What a lab host takes over from this machine to reach the outside: certificates, apt, pip, proxies, name servers.

Everything is found by reading this machine's configuration; nothing is known beforehand.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from vllm_fleet.errors import FleetError
from vllm_fleet.lab import carry_apt, carry_pip

DOWNLOADS = Path("/var/cache/vllm-fleet")
CA_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
CA_LOCAL = Path("/usr/local/share/ca-certificates")
# systemd-resolved keeps the real name servers here when /etc/resolv.conf names only itself.
RESOLVERS = (Path("/run/systemd/resolve/resolv.conf"), Path("/etc/resolv.conf"))

_CERTIFICATES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_PROXIES = ("http_proxy", "https_proxy", "no_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY")
_UV = (
    *("UV_DEFAULT_INDEX", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS", "UV_INDEX", "UV_INDEX_STRATEGY", "UV_INDEX_URL"),
    *("UV_INSECURE_HOST", "UV_NATIVE_TLS", "UV_NO_INDEX", "UV_SYSTEM_CERTS"),
)
_UV_FILES = ("/etc/uv/uv.toml", ".config/uv/uv.toml")


@dataclass(frozen=True)
class Item:
    """A file: its content and its permissions."""

    content: bytes
    mode: int = 0o644


@dataclass(frozen=True)
class Luggage:
    """What one host gets.

    Attributes:
        files: by absolute path inside the host.
        binds: directories of this machine to show read-only at the same path inside.
        names: lines of this machine's /etc/hosts that mean the same inside.
        warnings: what a host will not be able to use, one sentence each.
    """

    files: Mapping[Path, Item]
    binds: tuple[str, ...]
    names: str
    warnings: tuple[str, ...]


def pack(environment: Mapping[str, str], home: Path) -> Luggage:
    """Read this machine's configuration.

    Raises:
        FleetError: it has no name server that a host could reach.
    """
    pip = carry_pip.read(carry_pip.config_files(environment, home), environment)
    apt = carry_apt.options()
    named = [*carry_pip.files(pip), *carry_apt.files(apt), *sorted(CA_LOCAL.glob("*.crt")), CA_BUNDLE]
    named += [Path(environment[name]) for name in _CERTIFICATES if name in environment]
    copies = {path: _copy(path) for path in named if path.is_file()}
    for source in (Path(_UV_FILES[0]), home / _UV_FILES[1]):
        if source.is_file():
            copies[Path(_UV_FILES[0])] = _copy(source)
    written = {
        Path("/etc/resolv.conf"): resolv_conf(environment),
        Path("/etc/environment"): environment_file(environment),
        Path("/etc/apt/apt.conf.d/80machine"): "".join(f"{line}\n" for line in apt),
        Path("/etc/pip.conf"): carry_pip.text(pip),
    }
    if sources := carry_apt.sources():
        written[Path("/etc/apt/sources.list")] = "".join(f"{line}\n" for line in sources)
    return Luggage(
        files={**copies, **{path: Item(text.encode()) for path, text in written.items()}},
        binds=tuple(map(str, carry_pip.directories(pip))),
        names=host_names(Path("/etc/hosts").read_text()),
        warnings=tuple(
            f"{path} of the hosts names {place}, which only this machine itself can reach"
            for path, text in written.items()
            for place in loopback_places(text)
        ),
    )


def _copy(path: Path) -> Item:
    """Take a file along as it is; a private key stays private."""
    return Item(path.read_bytes(), stat.S_IMODE(path.stat().st_mode))


def environment_file(environment: Mapping[str, str]) -> str:
    """Return /etc/environment: this machine's certificates, proxies and indexes, and the shared download caches."""
    kept = {name: environment[name] for name in (*_CERTIFICATES, *_PROXIES, *_UV) if environment.get(name)}
    kept |= {"UV_CACHE_DIR": f"{DOWNLOADS}/uv", "PIP_CACHE_DIR": f"{DOWNLOADS}/pip", "UV_LINK_MODE": "copy"}
    return "".join(f'{name}="{value}"\n' for name, value in sorted(kept.items()))


def host_names(hosts: str) -> str:
    """Return the lines of an /etc/hosts whose addresses mean the same on another host."""
    kept = []
    for line in hosts.splitlines():
        try:
            address = ip_address((line.partition("#")[0].split() or [""])[0].partition("%")[0])
        except ValueError:
            continue
        if not (address.is_loopback or address.is_link_local or address.is_multicast or address.is_unspecified):
            kept.append(f"{line}\n")
    return "".join(kept)


def loopback_places(text: str) -> list[str]:
    """Return the URLs in a configuration that point to the machine itself, without what may be a password."""
    found = re.findall(r"(https?://)(?:[^/\s@\"]*@)?((?:localhost|127\.[\d.]+|\[::1\])(?::\d+)?)", text)
    return sorted({scheme + place for scheme, place in found})


def resolv_conf(environment: Mapping[str, str], candidates: tuple[Path, ...] = RESOLVERS) -> str:
    """Return /etc/resolv.conf with the name servers a host can reach.

    Raises:
        FleetError: this machine names only itself.
    """
    if named := environment.get("VLLM_FLEET_LAB_DNS"):
        return "".join(f"nameserver {server}\n" for server in named.split())
    for file in candidates:
        try:
            lines = file.read_text().splitlines()
        except OSError:
            continue
        servers = [line.split()[1] for line in lines if line.startswith("nameserver") and len(line.split()) > 1]
        reachable = [server for server in servers if not ip_address(server.partition("%")[0]).is_loopback]
        if reachable:
            rest = [line for line in lines if line.startswith(("search", "options"))]
            return "".join(f"{line}\n" for line in [*(f"nameserver {server}" for server in reachable), *rest])
    raise FleetError(
        "This machine's only name server is itself (loopback), which lab hosts cannot reach. "
        "Name another: VLLM_FLEET_LAB_DNS='192.0.2.53' scripts/lab up"
    )
