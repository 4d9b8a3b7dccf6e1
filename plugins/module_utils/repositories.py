"""Whether what a host downloads from is there: the compiler's package, the package index. Python 3.8."""

from __future__ import annotations

import configparser
import os
import shutil
import ssl
import urllib.error
import urllib.request
from pathlib import Path

from ansible.module_utils.findings import warning

DEFAULT_INDEX = "https://pypi.org/simple"
PIP_FILES = ("/etc/pip.conf", "/etc/xdg/pip/pip.conf", "~/.pip/pip.conf", "~/.config/pip/pip.conf")


def compiler_findings(compiler, missing, run):
    """Return a finding if there is no C compiler and the package lists have no `compiler` to install.

    Where there are no lists, or they cannot be asked without the network, nothing is said.
    """
    if compiler not in missing or shutil.which("cc") or not shutil.which("apt-cache"):
        return []
    # Without the options it would write its caches.
    policy = run(["apt-cache", "-o", "Dir::Cache::pkgcache=", "-o", "Dir::Cache::srcpkgcache=", "policy", compiler])
    if "Candidate: (none)" not in policy and policy:
        return []
    return [
        warning(
            "compiler-missing",
            f"there is no C compiler, and the package lists have no {compiler}; the first request would end a server "
            "without one. Run apt-get update, or add a repository that has it.",
        )
    ]


def pip_settings(environment, files):
    """Return (URL of the package index, file of certificate authorities or None), as pip would take them."""
    index, cert = DEFAULT_INDEX, None
    for file in files:
        parser = configparser.ConfigParser(interpolation=None)
        try:
            parser.read(os.path.expanduser(file))  # noqa: PTH111 - pip's own notation
        except configparser.Error:
            continue
        for section in ("global", "install"):
            index = parser.get(section, "index-url", fallback=index)
            cert = parser.get(section, "cert", fallback=cert)
    index = environment.get("UV_DEFAULT_INDEX") or environment.get("PIP_INDEX_URL") or index
    return index.rstrip("/"), environment.get("PIP_CERT") or environment.get("SSL_CERT_FILE") or cert


def index_findings(index, cert, timeout):
    """Return a finding if the package index does not answer; any answer of it will do."""
    if not index.startswith(("https://", "http://")):
        return []  # a directory
    shown = index.split("@")[-1]  # an address may hold a password
    try:
        context = ssl.create_default_context(cafile=cert if cert and Path(cert).is_file() else None)
        request = urllib.request.Request(f"{index}/uv/", method="HEAD")  # noqa: S310 - http(s) by the test above
        urllib.request.urlopen(request, timeout=timeout, context=context).close()  # noqa: S310
    except urllib.error.HTTPError:
        return []
    except (OSError, ValueError) as problem:
        return [
            warning(
                "index-unreachable",
                f"the package index {shown} does not answer: {getattr(problem, 'reason', problem)}. Set "
                "vllm_runtime_environment for a proxy or a certificate authority, or index-url in /etc/pip.conf.",
            )
        ]
    return []
