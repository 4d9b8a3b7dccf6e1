"""Options of the tests; pytest reads options only from here, whichever tests it is given."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """What tests/post_deploy verifies."""
    group = parser.getgroup("post-deploy verification")
    group.addoption("--inventory", metavar="PATH", help="whose servers to verify; default: that of ansible.cfg")
    group.addoption("--endpoints", metavar="FILE", help="the servers to verify, as JSON")
    group.addoption("--questions", metavar="FILE", help="questions to ask beside the built-in ones (YAML)")
