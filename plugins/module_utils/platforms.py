"""Which entries of a table by platform apply to a host. Python 3.8, standard library only."""

from __future__ import annotations


def parse_os_release(text):
    """Read the lines NAME=value of /etc/os-release."""
    pairs = [line.split("=", 1) for line in text.splitlines() if "=" in line]
    return {name: value.strip().strip("\"'") for name, value in pairs}


def platform_data(os_release, platforms):
    """Merge the entries of `platforms` that apply, from general to special; empty when none does."""
    identity, version = os_release.get("ID", ""), os_release.get("VERSION_ID", "")
    keys = [*reversed(os_release.get("ID_LIKE", "").split()), identity]
    keys += [f"{identity}-{version.split('.')[0]}", f"{identity}-{version}"]
    data = {}
    for key in keys:
        data.update(platforms.get(key, {}))
    return data
