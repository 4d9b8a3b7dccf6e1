#!/usr/bin/env python3
"""Run uv with the settings pip has on this machine: index, mirrors, certificates, proxy. uv itself reads none of them.

    uv_with_pip_settings.py UV ARGUMENT...

The Python that runs this file must have pip. What is set for uv already (UV_*, SSL_CERT_FILE, proxies) is left alone.
Standard library only: it also runs on hosts, with the Python they have.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Mapping


def parse_pip_settings(text: str) -> dict[str, str]:
    """Read what ``pip config list`` prints; ``pip install``'s win over global ones, the environment over both."""
    sections: dict[str, dict[str, str]] = {"global": {}, "install": {}, ":env:": {}}
    for line in text.splitlines():
        name, _, value = line.partition("=")
        section, _, key = name.strip().rpartition(".")
        if section in sections:
            try:
                sections[section][key] = str(ast.literal_eval(value.strip()))
            except (SyntaxError, ValueError):
                continue
    return {**sections["global"], **sections["install"], **sections[":env:"]}


def uv_environment(pip: Mapping[str, str], environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables to add to `environment` so that uv does what pip, configured by `pip`, would."""
    wanted = {
        "UV_DEFAULT_INDEX": pip.get("index-url", ""),
        "UV_EXTRA_INDEX_URL": " ".join(pip.get("extra-index-url", "").split()),
        "UV_FIND_LINKS": ",".join(pip.get("find-links", "").split()),
        "UV_INSECURE_HOST": " ".join(pip.get("trusted-host", "").split()),
        "UV_NO_INDEX": "1" if pip.get("no-index", "").lower() in ("1", "true", "yes", "on") else "",
        "SSL_CERT_FILE": pip.get("cert")
        or environment.get("REQUESTS_CA_BUNDLE")
        or environment.get("CURL_CA_BUNDLE", ""),
        "SSL_CLIENT_CERT": pip.get("client-cert", ""),
        "ALL_PROXY": pip.get("proxy", ""),
        # The machine's own trust store, which knows a company's certificate authority.
        "UV_SYSTEM_CERTS": "1",
    }
    if "UV_INDEX_URL" in environment:
        del wanted["UV_DEFAULT_INDEX"]
    return {name: value for name, value in wanted.items() if value and name not in environment}


def environment_for_uv(python: str, environment: Mapping[str, str]) -> dict[str, str]:
    """Return `environment` with what pip, run by `python`, is configured with translated for uv.

    Raises:
        subprocess.CalledProcessError: `python` has no working pip.
    """
    listing = subprocess.run(
        [python, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True, env=dict(environment)
    )
    return {**environment, **uv_environment(parse_pip_settings(listing.stdout), environment)}


if __name__ == "__main__":
    os.execvpe(sys.argv[1], sys.argv[1:], environment_for_uv(sys.executable, os.environ))  # noqa: S606
