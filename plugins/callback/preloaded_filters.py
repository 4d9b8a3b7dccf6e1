"""Ansible callback: load all filters and tests before the first task, once for the whole run."""

from __future__ import annotations

from ansible.plugins.callback import CallbackBase
from ansible.plugins.loader import filter_loader, test_loader

DOCUMENTATION = r"""
name: preloaded_filters
type: aggregate
short_description: Load filters and tests once for the whole run
description:
  - Ansible runs each task in a process forked from its own, and each loads all filters and tests when it meets the
    first, unless its parent has done so. For this project's that is half of the controller's work.
author:
  - vllm-fleet contributors
"""


class CallbackModule(CallbackBase):
    """The callback."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "preloaded_filters"

    def v2_playbook_on_start(self, playbook: object) -> None:
        """Ask for one of each, which loads all."""
        filter_loader.get("default")
        test_loader.get("defined")
