"""The command line and the environment that a placed server is started with."""

from __future__ import annotations

from collections.abc import Sequence

from vllm_fleet.plan.declaration import ModelServer
from vllm_fleet.plan.extra_args import flag_name
from vllm_fleet.plan.flags import FlagCatalogue
from vllm_fleet.plan.settings import Settings


def command_line(
    server: ModelServer, path: str, share: float | None, settings: Settings, flags: FlagCatalogue
) -> list[str]:
    """Return the words behind ``vllm``, the guide's flags in the guide's order first.

    Args:
        server: what is declared.
        path: the model's directory on the host.
        share: the fraction of each GPU's memory; None on processors, and where vLLM's default is to hold.
        settings: of the host.
        flags: those of the pinned vLLM.
    """
    words = ["serve", path, "--dtype", server.dtype, "--tensor-parallel-size", str(server.tensor_parallel_size)]
    if server.tool_call_parser:
        words += ["--enable-auto-tool-choice", "--tool-call-parser", server.tool_call_parser]
    if server.trust_remote_code:
        words.append("--trust-remote-code")
    if server.kind != "llm":
        words += ["--runner", "pooling"]
    words += ["--served-model-name", server.public_name]
    words += ["--host", settings.bind_address or "0.0.0.0", "--port", str(server.port)]  # noqa: S104 - declared so
    optional = {
        "max-model-len": server.max_model_len,
        "quantization": server.quantization,
        "chat-template": server.chat_template,
        "gpu-memory-utilization": share,
    }
    for name, value in optional.items():
        if value is not None:
            words += flags.render(name, value)
    words += ["--shutdown-timeout", str(settings.drain_seconds)]
    for name, value in sorted(server.extra_args.items()):
        words += flags.render(flag_name(name), value)
    return words


def environment(
    server: ModelServer, settings: Settings, visible: Sequence[str], cores: Sequence[str]
) -> dict[str, str]:
    """Return the environment; what is declared wins.

    Args:
        server: what is declared.
        settings: of the host.
        visible: what CUDA_VISIBLE_DEVICES takes for each of its GPUs, in rank order.
        cores: on processors, the core list of each rank.
    """
    common = {
        # Serving reads the model directory only; a start never waits for, or tells anything to, the network.
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        # Longer than a proxy's idle reuse, or sporadic 502s follow.
        "VLLM_HTTP_TIMEOUT_KEEP_ALIVE": str(settings.keep_alive_seconds),
        # Independent of systemd's start timeout and 600 s by default: too short for a cold start of a large model.
        "VLLM_ENGINE_READY_TIMEOUT_S": str(settings.start_timeout),
    }
    if settings.backend == "cuda":
        devices = {
            "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
            # No VLLM_ENABLE_STARTUP_PLAN: its fingerprint leaves the utilization out (CacheConfig.compute_hash in
            # vllm/config/cache.py), so the KV cache would stay as large as it was where the share gets smaller.
            "CUDA_VISIBLE_DEVICES": ",".join(visible),
        }
    else:
        devices = {
            "VLLM_CPU_OMP_THREADS_BIND": "|".join(cores),
            "VLLM_CPU_KVCACHE_SPACE": str(settings.cpu_kvcache_gib),
        }
    return common | devices | dict(server.env)
