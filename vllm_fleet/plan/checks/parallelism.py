"""Ways to spread a server over more GPUs than its tensor parallel size, which the plan does not place."""

from __future__ import annotations

from collections.abc import Iterator

from vllm_fleet.plan.declaration import ModelServer
from vllm_fleet.plan.extra_args import flag, without
from vllm_fleet.plan.problems import Change, Problem

# Each multiplies the GPUs a server takes, or its hosts (ParallelConfig in vllm/config/parallel.py).
MULTIPLIERS = ("data-parallel-size", "nnodes", "pipeline-parallel-size")


def check_parallelism(server: ModelServer) -> Iterator[Problem]:
    """Yield an error for each flag by which vLLM would take GPUs that the plan has not given to the server."""
    for name in MULTIPLIERS:
        value = flag(server, name, 1)
        if str(value) == "1":
            continue
        message = (
            f"extra_args: {name} {value} takes more GPUs than tensor_parallel_size, for which alone there are plans. "
            "Leave it out, and declare another tensor_parallel_size or more servers"
        )
        remedy = (Change(server.name, "extra_args", without(server, name)),)
        yield Problem(f"server {server.name}", message, "plan-gpu", remedies=(remedy,))
