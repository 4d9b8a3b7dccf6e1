"""Whether a host can hold what its servers bring, beside its devices, and start them in time."""

from __future__ import annotations

from vllm_fleet.plan.declaration import ModelServer
from vllm_fleet.plan.host import Host
from vllm_fleet.plan.models.facts import ModelFacts
from vllm_fleet.plan.problems import Problem
from vllm_fleet.plan.sentences import gib
from vllm_fleet.plan.settings import Settings

# What the slower of usual disks, SATA and network file systems, read in a second.
DISK_BYTES_PER_SECOND = 200 * 10**6
# Beside the reading: imports, compilation, profiling, CUDA graphs.
COMPILE_SECONDS = 300


def check_main_memory(server: ModelServer, facts: ModelFacts | None, host: Host) -> list[Problem]:
    """Return a warning where a model is larger than main memory, through which all of it goes at every start.

    vLLM maps the files of weights (safetensors_weights_iterator in vllm/model_executor/model_loader/weight_utils.py),
    so that it starts with less, but nothing of them is left in the page cache for the next start.
    """
    if facts is None or not 0 < host.memory_bytes < facts.weights.total:
        return []
    message = (
        f"the weights of {server.model} are {gib(facts.weights.total)}, the main memory of {host.name} is "
        f"{gib(host.memory_bytes)}, so every start reads them all from disk. Add memory, or allow for slow "
        "starts (model_server_start_timeout)"
    )
    return [Problem(f"server {server.name}", message, "plan-memory", "warning")]


def check_start_time(server: ModelServer, facts: ModelFacts | None, settings: Settings) -> list[Problem]:
    """Return a warning where a first start from a slow disk takes longer than a start may.

    Both systemd and vLLM (``VLLM_ENGINE_READY_TIMEOUT_S``) would end it, and the next one from a warm page cache would
    succeed (vllm-project/vllm#48031).
    """
    seconds = COMPILE_SECONDS + (facts.weights.total if facts else 0) / DISK_BYTES_PER_SECOND
    if facts is None or seconds <= settings.start_timeout:
        return []
    minutes, disk = f"{seconds / 60:.0f} minutes", f"{DISK_BYTES_PER_SECOND // 10**6} MB/s"
    message = (
        f"its first start reads {gib(facts.weights.total)}, which takes about {minutes} from a disk of {disk}; "
        f"model_server_start_timeout is {settings.start_timeout} s. Raise it to {-(-int(seconds) // 600) * 600}, or "
        "have a faster disk"
    )
    return [Problem(f"server {server.name}", message, "plan-model", "warning")]
