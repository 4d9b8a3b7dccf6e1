"""Turn a declaration, a host and its models into the serving plan of that host.

The plan is what roles and templates render: GPUs, shares, command lines, environments, paths. They compute nothing
themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from vllm_fleet.plan.checks.device import check_device
from vllm_fleet.plan.checks.host import check_main_memory, check_start_time
from vllm_fleet.plan.checks.memory import budget, check_memory
from vllm_fleet.plan.checks.model import check_model
from vllm_fleet.plan.checks.parallelism import check_parallelism
from vllm_fleet.plan.command import command_line, environment
from vllm_fleet.plan.cores import rank_cores
from vllm_fleet.plan.declaration import KINDS, ModelServer, parse
from vllm_fleet.plan.flags import FlagCatalogue
from vllm_fleet.plan.host import Device, Host
from vllm_fleet.plan.memory.kv_cache import kv_tokens, requests_at_full_length
from vllm_fleet.plan.models.facts import ModelFacts
from vllm_fleet.plan.models.read import UnreadableModel, interpret
from vllm_fleet.plan.models.shipped import shipped
from vllm_fleet.plan.problems import Problem
from vllm_fleet.plan.remedies import with_remedies
from vllm_fleet.plan.result import Memory, Model, PlannedDevice, Server, ServingPlan
from vllm_fleet.plan.sentences import GIB
from vllm_fleet.plan.settings import BACKENDS, WATCHDOG_SECONDS_MIN, Settings
from vllm_fleet.plan.solve import Case, Solution, solve

WILDCARD_ADDRESSES = ("0.0.0.0", "::", "")  # noqa: S104 - compared with, not bound to


def make_plan(
    raw: object,
    host: Host,
    settings: Settings,
    flags: FlagCatalogue,
    descriptions: Mapping[str, Mapping[str, Any]] | None = None,
    unread: Mapping[str, str] | None = None,
    now: Mapping[str, Mapping[str, Any]] | None = None,
) -> tuple[ServingPlan | None, tuple[Problem, ...]]:
    """Plan one host; return the plan, or None where an error is among the problems.

    Args:
        raw: the value of ``model_servers``.
        host: the host, as its facts say.
        settings: of the host.
        flags: those of the pinned vLLM.
        descriptions: what was read of each model, by its directory on the host.
        unread: why a model could not be read, likewise.
        now: what runs on the host now, by the server's name, as the module model_server_facts says.
    """
    declared, parsed = parse(raw, flags)
    problems = [*parsed, *_settings_problems(settings), *_environment_problems(declared)]
    if settings.backend not in BACKENDS:
        return None, tuple(problems)
    # One order whatever the order of the declaration; it is the order of starts as well, the largest first.
    declared = tuple(sorted(declared, key=lambda server: (KINDS.index(server.kind), server.name)))
    cases = []
    for server in declared:
        facts, doubts = _facts(server, settings, descriptions or {}, unread or {})
        problems += doubts
        cases.append(Case(server, facts, (now or {}).get(server.name) or {}))
    problems += _mismatches(cases, host, settings, flags)
    if _errors(problems):
        return None, tuple(problems)
    solution, found = _solved(cases, host, settings, help_along=True)
    if _errors(found):

        def errors_of(changed: Sequence[Case], on: Host) -> list[Problem]:
            wrong = _errors(_mismatches(changed, on, settings, flags))
            return wrong or _errors(_solved(changed, on, settings)[1])

        found = [with_remedies(p, cases, host, errors_of) if p.severity == "error" else p for p in found]
    problems += found
    if solution is None or _errors(found):
        return None, tuple(problems)
    return _plan(cases, solution, host, settings, flags), tuple(problems)


def model_of(server: ModelServer, settings: Settings) -> Model:
    """Return where the model of a server is on the host, and where it comes from."""
    if server.local:
        return Model(None, None, None, server.model)
    # A directory per commit: another revision never overwrites the files that are being served.
    parts = [server.model.strip("/").replace("/", "--"), server.revision]
    path = PurePosixPath(settings.models_root, *[part.replace("/", "--") for part in parts if part])
    return Model(server.model, server.revision, server.copy_from, str(path))


def _errors(problems: Iterable[Problem]) -> list[Problem]:
    return [problem for problem in problems if problem.severity == "error"]


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


def _facts(
    server: ModelServer,
    settings: Settings,
    descriptions: Mapping[str, Mapping[str, Any]],
    unread: Mapping[str, str],
) -> tuple[ModelFacts | None, list[Problem]]:
    path = model_of(server, settings).path
    description = descriptions.get(path) or shipped(server.model)
    reason = unread.get(path, "its files are not on the host")
    if description is not None:
        try:
            return interpret(description, server.model), []
        except UnreadableModel as error:
            reason = str(error)
    message = (
        f"nothing is known of model {server.model}, so neither its memory nor its flags can be checked: {reason}. "
        "Fetch it first (playbooks/models.yml), or declare gpu_memory_utilization"
    )
    return None, [Problem(f"server {server.name}", message, "model-unknown", "warning")]


def _mismatches(cases: Sequence[Case], host: Host, settings: Settings, flags: FlagCatalogue) -> list[Problem]:
    """Servers that do not suit their models or the devices there are."""
    devices = host.devices(settings.backend)
    problems: list[Problem] = []
    for case in cases:
        if case.facts is not None:
            problems += check_model(case.server, case.facts, flags)
        problems += check_parallelism(case.server)
        problems += check_device(case.server, case.facts, devices, settings, flags)
        problems += check_main_memory(case.server, case.facts, host)
        problems += check_start_time(case.server, case.facts, settings)
    return problems


def _solved(
    cases: Sequence[Case], host: Host, settings: Settings, help_along: bool = False
) -> tuple[Solution | None, list[Problem]]:
    solution, problems = solve(cases, host, settings, help_along)
    if solution is not None:
        problems += check_memory(cases, solution, host, settings)
    return solution, problems


def _plan(
    cases: Sequence[Case], solution: Solution, host: Host, settings: Settings, flags: FlagCatalogue
) -> ServingPlan:
    devices = {device.index: device for device in host.devices(settings.backend)}
    cores = rank_cores({case.server.name: case.server.tensor_parallel_size for case in cases}, host.cpus)
    everywhere = settings.bind_address in WILDCARD_ADDRESSES
    probed = "127.0.0.1" if everywhere else settings.bind_address
    reachable = host.address if everywhere else settings.bind_address
    servers = []
    for case in cases:
        server, share = case.server, solution.placement.shares.get(case.server.name)
        gpus = solution.placement.devices[server.name]
        unknown = [Device(index, "", 0, visible_as=str(index), lock=f"gpu-{index}") for index in gpus]
        chosen = [devices.get(index, fallback) for index, fallback in zip(gpus, unknown, strict=True)]
        path = model_of(server, settings).path
        servers.append(
            Server(
                name=server.name,
                unit=f"vllm-{server.name}.service",
                kind=server.kind,
                model=server.model,
                served_model_name=server.public_name,
                model_path=path,
                host=host.name,
                port=server.port,
                base_url=f"http://{bracketed(reachable)}:{server.port}",
                probe_address=probed,
                dtype=server.dtype,
                tensor_parallel_size=server.tensor_parallel_size,
                max_model_len=server.max_model_len,
                context_length=case.max_model_len,
                tool_calls=server.tool_call_parser is not None,
                trust_remote_code=server.trust_remote_code,
                argv=tuple(command_line(server, path, share, settings, flags)),
                env=environment(server, settings, [device.visible_as for device in chosen], cores[server.name]),
                device_locks=tuple(sorted({device.lock for device in chosen})) or ("cpu",),
                gpus=gpus,
                share=share,
                memory=_memory(case, solution, host, settings),
            )
        )
    return ServingPlan(
        backend=settings.backend,
        host=host.name,
        assumed=settings.backend == "cuda" and (host.assumed or host.gpus is None),
        devices=tuple(_shown(device, settings) for device in devices.values()),
        models=tuple({model_of(case.server, settings): None for case in cases}),
        servers=tuple(servers),
    )


def _memory(case: Case, solution: Solution, host: Host, settings: Settings) -> Memory | None:
    demand = solution.demands.get(case.server.name)
    if demand is None:
        return None
    if settings.backend == "cpu":
        cache = settings.cpu_kvcache_gib * GIB if demand.kv_least else 0
    else:
        cache = demand.cache_bytes(budget(case.server.name, solution, host, settings) or 0)
    return Memory(
        weights=(demand.weights.bytes, demand.weights.error),
        activations=(demand.activations.bytes, demand.activations.error),
        graphs=(demand.graphs.bytes, demand.graphs.error),
        context=(demand.context.bytes, demand.context.error),
        kv_cache_bytes=cache,
        kv_tokens=kv_tokens(demand, cache),
        requests_at_full_length=round(requests_at_full_length(demand, cache), 2),
        source=demand.source,
    )


def _shown(device: Device, settings: Settings) -> PlannedDevice:
    limit = settings.gpu_memory_limit if settings.backend == "cuda" else 1.0
    return PlannedDevice(
        device.index,
        device.name,
        device.memory_bytes,
        int(device.memory_bytes * limit) - device.held_bytes,
        device.held_bytes,
    )


def bracketed(address: str) -> str:
    """Return an address as it stands in a URL."""
    return f"[{address}]" if ":" in address else address
