"""GPUs divided by MIG, as nvidia-smi tells of them."""

from __future__ import annotations

import pytest

from tests.hosts.replay import facts

from ansible.module_utils.gpu_host.mig import parse_list  # isort: skip - found once tests.hosts.replay is loaded

# From NVIDIA's MIG user guide, UUIDs shortened.
LISTED = """\
GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-e86cb44c)
  MIG 3g.20gb     Device  0: (UUID: MIG-c7384736)
  MIG 1g.5gb+me   Device  1: (UUID: MIG-a28ad590)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-5d5ba0d6)
"""


def test_instances_are_read_with_profile_uuid_and_memory() -> None:
    divided, whole = facts("mig-a100x2")["gpus"]
    assert (divided["mig"], whole["mig"], whole["mig_devices"]) == (True, False, [])
    assert [(one["profile"], one["gpu_instance"], one["memory_total_mib"]) for one in divided["mig_devices"]] == [
        ("3g.40gb", 2, 40192),
        ("2g.20gb", 3, 19968),
        ("1g.10gb", 9, 9728),
    ]
    first = divided["mig_devices"][0]
    assert (first["index"], first["memory_used_mib"], first["memory_free_mib"]) == (0, 30250, 9942)
    assert first["uuid"] == "MIG-00000000-0000-4000-8000-000000000000"


def test_a_process_is_known_by_its_instance() -> None:
    processes = facts("mig-a100x2")["gpus"][0]["processes"]
    assert [(one["gpu_instance"], one["unit"]) for one in processes] == [(2, "vllm-llm.service"), (3, None)]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (LISTED, {0: {0: ("3g.20gb", "MIG-c7384736"), 1: ("1g.5gb+me", "MIG-a28ad590")}, 1: {}}),
        ("Failed to initialize NVML: Driver/library version mismatch\n", {}),
        ("  MIG 3g.20gb     Device  0: (UUID: MIG-c7384736)\n", {}),
    ],
)
def test_the_list_of_devices_is_read(text: str, found: dict[int, dict[int, tuple[str, str]]]) -> None:
    assert parse_list(text) == found
