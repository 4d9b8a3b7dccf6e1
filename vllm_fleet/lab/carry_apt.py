"""Where this machine gets Debian packages from, so that its lab hosts do the same."""

from __future__ import annotations

import re
from pathlib import Path

from vllm_fleet.errors import FleetError
from vllm_fleet.lab.process import run

SUITE = "bookworm"
AUTH = (Path("/etc/apt/auth.conf"), Path("/etc/apt/auth.conf.d"))

_FORMAT = "$(ORIGIN) $(REPO_URI) $(RELEASE) $(COMPONENT)"
# What decides how packages are fetched; the rest of a machine's apt configuration is its own business.
_OPTION = re.compile(r'Acquire::(?:https?|Check-[\w-]+|Retries|Force[\w]+|Languages)\b.* "(?:[^"]*)";')
_FILE = re.compile(r'::(?:CaInfo|SslCert|SslKey) "(/[^"]+)"', re.IGNORECASE)


def sources() -> list[str]:
    """Return one-line apt sources of the suite lab hosts run, from the archives this machine uses.

    None on a machine that uses no Debian archive: mmdebstrap then takes Debian's own, and notes it in the base image.
    """
    command = ["apt-get", "indextargets", "--format", _FORMAT, "Created-By: Packages"]
    try:
        targets = run(command)
        if not targets.strip():  # apt has read no archive yet
            run(["apt-get", "update"], timeout=600)
            targets = run(command)
    except FleetError:
        targets = ""
    return parse_targets(targets)


def parse_targets(targets: str) -> list[str]:
    """Turn lines "ORIGIN URI RELEASE COMPONENT" into sources of the lab's suite; only Debian's own archives count.

    A machine of another release (trixie, stable) lends its archives; backports and the like are left out.
    """
    found = []
    for line in targets.splitlines():
        fields = line.split()
        if len(fields) != 4 or fields[0] != "Debian":
            continue
        _, uri, release, component = fields
        match = re.fullmatch(r"[a-z0-9.]+((?:-updates|-security)?)", release)
        if match:
            source = f"deb {uri.rstrip('/')} {SUITE}{match[1]} {component}"
            if source not in found:
                found.append(source)
    return found


def options() -> list[str]:
    """Return those lines of this machine's apt configuration that say how to fetch packages (proxies, retries)."""
    return parse_options(run(["apt-config", "dump"]))


def parse_options(dump: str) -> list[str]:
    """Pick those lines from `apt-config dump`."""
    return [line for line in dump.splitlines() if _OPTION.fullmatch(line)]


def files(lines: list[str]) -> list[Path]:
    """Return the files that fetching needs: certificates the options name, and credentials for archives."""
    found = [Path(path) for line in lines for path in _FILE.findall(line)]
    for path in AUTH:
        found += sorted(path.glob("*.conf")) if path.is_dir() else [path]
    return [path for path in found if path.is_file()]
