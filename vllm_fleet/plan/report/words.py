"""The words and cells that the report has in common, whatever shows it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from vllm_fleet.plan.report.bars import Bar, Row, bars, cache_error
from vllm_fleet.plan.report.difference import Difference
from vllm_fleet.plan.report.figures import gib, indices, listed
from vllm_fleet.plan.report.hosts import HostReport
from vllm_fleet.plan.sentences import counted

OVERVIEW_HEADINGS = ("host", "devices", "servers", "fullest device", "a run would")
SERVER_HEADINGS = ("server", "kind", "port", "GPUs", "share", "KV tokens", "requests at full length", "memory is")


def names(group: Sequence[HostReport]) -> str:
    """Return the names of hosts that are alike, and their number where there are several."""
    text = listed([host.name for host in group])
    return f"{text} ({counted(len(group), 'host')}, all alike)" if len(group) > 1 else text


def devices(plan: Mapping[str, Any]) -> str:
    """Return what a host computes on, such as ``8 x NVIDIA H100 80GB HBM3``."""
    if plan["backend"] == "cpu":
        return "processors"
    kinds: dict[str, int] = {}
    for device in plan["devices"]:
        kinds[device["name"]] = kinds.get(device["name"], 0) + 1
    return ", ".join(f"{number} x {name}" for name, number in kinds.items()) or "GPUs not known yet"


def device_title(bar: Bar, on_processors: bool) -> str:
    """Return the name of a device, or of several that are alike, and its memory."""
    several = len(bar.indices) > 1
    where = bar.name if on_processors else f"GPU{'s' if several else ''} {indices(bar.indices)}  {bar.name}"
    each = " each" if several else ""
    limit = f", of which servers may take {gib(bar.limit)}" if bar.limit < bar.memory else ""
    return f"{where}, {gib(bar.memory)} GiB{each}{limit}"


def total(row: Row) -> str:
    """Return all of a row in GiB, ``?`` where nothing is known of it."""
    return gib(row.size) if row.segments else "?"


def fullest(plan: Mapping[str, Any]) -> str:
    """Return how much of the device is taken of which most is."""
    return f"{max((bar.taken / max(bar.memory, 1) for bar in bars(plan)), default=0):.0%}" if plan["devices"] else ""


def effects(differences: Sequence[Difference]) -> str:
    """Return what becomes of the servers in few words, such as ``start llm; restart rerank``."""
    groups: dict[str, list[str]] = {}
    for one in differences:
        if one.effect != "keeps running":
            groups.setdefault(one.effect.removesuffix("s"), []).append(one.server)
    return "; ".join(f"{verb} {listed(servers)}" for verb, servers in groups.items()) or "change nothing"


def overview_cells(host: HostReport) -> tuple[str, str, str, str]:
    """Return devices, number of servers, how full the fullest device is, and what a run would do."""
    if host.plan is None:
        return "", "", "", f"not begin: {counted(host.errors, 'error')}"
    doing = "" if host.differences is None else effects(host.differences)
    return devices(host.plan), str(len(host.plan["servers"])), fullest(host.plan), doing


def sentence(problem: Mapping[str, Any]) -> str:
    """Return a problem in one line, with the code by which the documentation explains it."""
    return f"{problem['where']}: {problem['message']} [{problem['code']}]"


def assumption(plan: Mapping[str, Any], what_if: str) -> str:
    """Return what to think of a plan for GPUs that no driver has answered for."""
    if what_if:
        return f"planned for {what_if} in place of what the host has, with the memory that GPUs of this kind have"
    if not plan["devices"]:
        return (
            "no driver says yet which GPUs there are: nothing is known of their memory, and servers go where declared"
        )
    return "no driver answers yet: these are the GPUs on the PCI bus, with the memory that their kind has"


def command(server: Mapping[str, Any]) -> str:
    """Return the command line of a server as a shell would take it, with the GPUs it sees."""
    visible = server["env"].get("CUDA_VISIBLE_DEVICES")
    sees = f"CUDA_VISIBLE_DEVICES={shlex.quote(visible)} " if visible is not None else ""
    return f"{sees}vllm {shlex.join(server['argv'])}"


def server_cells(server: Mapping[str, Any]) -> tuple[str, ...]:
    """Return name, kind, port, GPUs, share, tokens in the KV cache, requests of full length, and source of a server."""
    memory = server["memory"] or {}
    tokens, requests = memory.get("kv_tokens"), memory.get("requests_at_full_length")
    return (
        server["name"],
        server["kind"],
        str(server["port"]),
        indices(server["gpus"]) or "-",
        "-" if server["share"] is None else f"{server['share']:.2f}",
        f"{tokens:,}{_error_of_tokens(memory, server['share'])}" if tokens else "-",
        counted_requests(requests, server["max_model_len"]) if requests else "-",
        {"estimate": "an estimate", "measured": "measured"}.get(memory.get("source", ""), "not known"),
    )


def counted_requests(requests: float, length: int | None) -> str:
    """Return how many requests of the greatest length the KV cache holds at a time."""
    of = f" of {length:,} tokens" if length else ""
    return f"{requests:,.1f}{of}"


def _error_of_tokens(memory: Mapping[str, Any], share: float | None) -> str:
    part = cache_error(memory, share is not None) / max(memory["kv_cache_bytes"], 1)
    return f" ±{max(part, 0.01):.0%}" if part else ""
