"""Settings of a host that hold for all of its model servers; each is a variable of a role."""

from __future__ import annotations

from dataclasses import dataclass

BACKENDS = ("cuda", "cpu")
# Below this a server that is only busy would be taken for a dead one.
WATCHDOG_SECONDS_MIN = 15


@dataclass(frozen=True)
class Settings:
    """How the servers of one host are run. Durations are in seconds, sizes in GiB."""

    backend: str = "cuda"
    models_root: str = "/var/lib/vllm-fleet/models"
    bind_address: str = "127.0.0.1"
    start_timeout: int = 1800
    drain_seconds: int = 30
    watchdog_seconds: int = 60
    keep_alive_seconds: int = 75
    cpu_kvcache_gib: int = 4
    api_key: bool = False
