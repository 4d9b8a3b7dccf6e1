"""Settings of a host that hold for all of its model servers; each is a variable of a role."""

from __future__ import annotations

from dataclasses import dataclass

BACKENDS = ("cuda", "cpu")
# Below this a server that is only busy would be taken for a dead one.
WATCHDOG_SECONDS_MIN = 15


@dataclass(frozen=True)
class Settings:
    """How the servers of one host are run. Durations are in seconds, sizes in GiB.

    ``gpu_memory_limit`` is the part of a GPU that servers may take together, ``gpu_memory_alone`` what a server gets
    that has its GPUs to itself. ``replan`` says to forget on which GPUs and with which shares servers run now.
    """

    backend: str = "cuda"
    models_root: str = "/var/lib/vllm-fleet/models"
    bind_address: str = "127.0.0.1"
    start_timeout: int = 1800
    drain_seconds: int = 30
    watchdog_seconds: int = 60
    keep_alive_seconds: int = 75
    cpu_kvcache_gib: int = 4
    gpu_memory_limit: float = 0.95
    gpu_memory_alone: float = 0.92
    replan: bool = False
