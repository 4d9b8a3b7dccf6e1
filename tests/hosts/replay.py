"""Read one of tests/hosts as the module reads a machine."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path
from typing import Any

from tests import hosts
from tests.load import load

load("plugins/modules/gpu_host_facts.py")
from ansible.module_utils.gpu_host.collect import collect  # noqa: E402


@functools.cache
def facts(name: str, *paths: str) -> Any:
    """Return the fact gpu_host of a host of tests/hosts."""
    with tempfile.TemporaryDirectory() as directory:
        return collect(str(hosts.build(hosts.named(name), Path(directory))), 20, list(paths))
