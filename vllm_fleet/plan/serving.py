"""Turn a declaration and a host into the serving plan of that host.

The plan is what roles and templates render: command lines, environments, paths. They compute nothing themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any

from vllm_fleet.plan.cores import rank_cores
from vllm_fleet.plan.declaration import ModelServer, parse
from vllm_fleet.plan.flags import FlagCatalogue
from vllm_fleet.plan.host import Host
from vllm_fleet.plan.problems import Problem
from vllm_fleet.plan.settings import BACKENDS, WATCHDOG_SECONDS_MIN, Settings

# Above this share of one GPU the CUDA contexts of several servers no longer fit beside what vLLM reserves.
SHARED_GPU_LIMIT = 0.95
# vLLM's own default for one server alone on its GPUs.
DEFAULT_UTILIZATION = 0.92
WILDCARD_ADDRESSES = ("0.0.0.0", "::", "")  # noqa: S104 - compared with, not bound to


@dataclass(frozen=True)
class Model:
    """A model directory on the host and where its files come from; ``id`` is None for a directory that is there."""

    id: str | None
    revision: str | None
    copy_from: str | None
    path: str


@dataclass(frozen=True)
class Server:
    """One model server as it will run: everything the unit template and the verification need."""

    name: str
    unit: str
    kind: str
    model: str
    served_model_name: str
    model_path: str
    host: str
    port: int
    base_url: str
    probe_address: str
    dtype: str
    tensor_parallel_size: int
    max_model_len: int | None
    tool_calls: bool
    trust_remote_code: bool
    argv: tuple[str, ...]
    env: dict[str, str]
    device_locks: tuple[str, ...]


@dataclass(frozen=True)
class ServingPlan:
    """What runs on one host, in start order."""

    backend: str
    models: tuple[Model, ...]
    servers: tuple[Server, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the plan as plain lists and mappings, as Ansible and JSON want it."""
        plain = asdict(self)
        return {
            **plain,
            "models": list(plain["models"]),
            "servers": [
                {**server, "argv": list(server["argv"]), "device_locks": list(server["device_locks"])}
                for server in plain["servers"]
            ],
        }


def make_plan(
    raw: object, host: Host, settings: Settings, flags: FlagCatalogue
) -> tuple[ServingPlan | None, tuple[Problem, ...]]:
    """Plan one host; return the plan, or None and every reason against it."""
    declared, problems = parse(raw, flags)
    problems += _settings_problems(settings) + _environment_problems(declared)
    if settings.backend == "cuda":
        problems += _gpu_problems(declared, host)
    if problems:
        return None, problems
    models = {_model(server, settings): None for server in declared}
    servers = tuple(_server(server, declared, host, settings, flags) for server in declared)
    return ServingPlan(settings.backend, tuple(models), servers), ()


def _settings_problems(settings: Settings) -> tuple[Problem, ...]:
    problems = []
    if settings.backend not in BACKENDS:
        expected = " or ".join(BACKENDS)
        problems.append(Problem("vllm_runtime_backend", f"expected {expected}, found {settings.backend!r}"))
    if settings.watchdog_seconds != 0 and settings.watchdog_seconds < WATCHDOG_SECONDS_MIN:
        expected = f"0 (no watchdog) or at least {WATCHDOG_SECONDS_MIN}"
        problems.append(
            Problem("model_server_watchdog_seconds", f"expected {expected}, found {settings.watchdog_seconds}")
        )
    return tuple(problems)


def _environment_problems(declared: Sequence[ModelServer]) -> tuple[Problem, ...]:
    """Variables that would break a server later than its start."""
    reason = "env: VLLM_PORT makes vLLM's inner ports collide with those of another server; declare port alone"
    return tuple(Problem(f"server {server.name}", reason) for server in declared if "VLLM_PORT" in server.env)


def _gpu_problems(declared: Sequence[ModelServer], host: Host) -> tuple[Problem, ...]:
    """Servers on GPUs that are not there, and GPUs that are promised more than once."""
    problems = []
    shares: dict[int, list[tuple[str, float]]] = {}
    for server in declared:
        for gpu in gpus_of(server):
            shares.setdefault(gpu, []).append((server.name, server.gpu_memory_utilization or DEFAULT_UTILIZATION))
        if host.gpu_count is not None and max(gpus_of(server)) >= host.gpu_count:
            wanted = ", ".join(map(str, gpus_of(server)))
            problems.append(Problem(f"server {server.name}", f"wants GPUs {wanted}, {host.name} has {host.gpu_count}"))
    for gpu, users in sorted(shares.items()):
        total = sum(share for _, share in users)
        if len(users) > 1 and total > SHARED_GPU_LIMIT + 1e-9:
            each = ", ".join(f"{name} {share:g}" for name, share in users)
            problems.append(
                Problem(
                    f"GPU {gpu}",
                    f"gpu_memory_utilization adds up to {total:g} ({each}); "
                    f"declare shares whose sum is at most {SHARED_GPU_LIMIT}, or other gpus",
                )
            )
    return tuple(problems)


def gpus_of(server: ModelServer) -> tuple[int, ...]:
    """Return the GPUs of a server: the declared ones, or as many as it needs from the first on."""
    return server.gpus or tuple(range(server.tensor_parallel_size))


def _model(server: ModelServer, settings: Settings) -> Model:
    if server.local:
        return Model(None, None, None, server.model)
    # A directory per commit: another revision never overwrites the files that are being served.
    parts = [server.model.strip("/").replace("/", "--"), server.revision]
    path = PurePosixPath(settings.models_root, *[part.replace("/", "--") for part in parts if part])
    return Model(server.model, server.revision, server.copy_from, str(path))


def _server(
    server: ModelServer, declared: Sequence[ModelServer], host: Host, settings: Settings, flags: FlagCatalogue
) -> Server:
    reachable = host.address if settings.bind_address in WILDCARD_ADDRESSES else settings.bind_address
    probed = "127.0.0.1" if settings.bind_address in WILDCARD_ADDRESSES else settings.bind_address
    locks = ("cpu",) if settings.backend == "cpu" else tuple(f"gpu-{gpu}" for gpu in sorted(gpus_of(server)))
    model = _model(server, settings)
    return Server(
        name=server.name,
        unit=f"vllm-{server.name}.service",
        kind=server.kind,
        model=server.model,
        served_model_name=server.public_name,
        model_path=model.path,
        host=host.name,
        port=server.port,
        base_url=f"http://{_bracketed(reachable)}:{server.port}",
        probe_address=probed,
        dtype=server.dtype,
        tensor_parallel_size=server.tensor_parallel_size,
        max_model_len=server.max_model_len,
        tool_calls=server.tool_call_parser is not None,
        trust_remote_code=server.trust_remote_code,
        argv=tuple(_argv(server, model.path, settings, flags)),
        env=_environment(server, declared, host, settings),
        device_locks=locks,
    )


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _argv(server: ModelServer, path: str, settings: Settings, flags: FlagCatalogue) -> list[str]:
    """Return the words behind ``vllm``, the guide's flags in the guide's order first."""
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
        "gpu-memory-utilization": server.gpu_memory_utilization if settings.backend == "cuda" else None,
    }
    for name, value in optional.items():
        if value is not None:
            words += flags.render(name, value)
    words += ["--shutdown-timeout", str(settings.drain_seconds)]
    for name, value in sorted(server.extra_args.items()):
        words += flags.render(name.removeprefix("--").replace("_", "-"), value)
    return words


def _environment(
    server: ModelServer, declared: Sequence[ModelServer], host: Host, settings: Settings
) -> dict[str, str]:
    environment = {
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
        environment |= {
            "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
            "CUDA_VISIBLE_DEVICES": ",".join(map(str, gpus_of(server))),
            # Keep the result of memory profiling in the cache; vLLM profiles anew where anything it depends on changed.
            "VLLM_ENABLE_STARTUP_PLAN": "1",
        }
    else:
        lists = rank_cores({s.name: s.tensor_parallel_size for s in declared}, host.cpus)[server.name]
        environment |= {
            "VLLM_CPU_OMP_THREADS_BIND": "|".join(lists),
            "VLLM_CPU_KVCACHE_SPACE": str(settings.cpu_kvcache_gib),
        }
    return environment | dict(server.env)
