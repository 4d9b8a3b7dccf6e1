"""A run of Ansible, watched: progress while it goes on, and at its end what happened in plain words."""

from vllm_fleet.run.runner import RunResult, run_playbook

__all__ = ["RunResult", "run_playbook"]
