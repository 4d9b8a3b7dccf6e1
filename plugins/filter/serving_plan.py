"""Filters over vllm_fleet: the serving plan of a host, its endpoints, and the text of systemd units."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml
from ansible.errors import AnsibleFilterError

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from vllm_fleet.plan.cards import hypothetical  # noqa: E402 - found by the path set above
from vllm_fleet.plan.declaration import parse  # noqa: E402
from vllm_fleet.plan.endpoints import endpoints, looked_at  # noqa: E402
from vllm_fleet.plan.flags import FlagCatalogue  # noqa: E402
from vllm_fleet.plan.host import Host  # noqa: E402
from vllm_fleet.plan.models.shipped import shipped  # noqa: E402
from vllm_fleet.plan.serving import make_plan, model_of  # noqa: E402
from vllm_fleet.plan.settings import Settings  # noqa: E402
from vllm_fleet.plan.variables import unknown_variables  # noqa: E402
from vllm_fleet.units import first_error, in_state, outdated, quote_argument, quote_word, server_units  # noqa: E402


def declared_models(declared: object, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return where to read the models of the servers that are declared rightly.

    ``on_host`` is what the module model_facts takes; one that the project knows has no ``model`` there, so that no hub
    is asked for it. ``copied`` are directories on the controller by the models' paths on the host.
    """
    servers, _ = parse(declared, FlagCatalogue.load())
    models = {model_of(server, Settings(**settings)): None for server in servers}
    return {
        "on_host": [
            {"model": None if one.id is None or shipped(one.id) else one.id, "revision": one.revision, "path": one.path}
            for one in models
            if one.copy_from is None
        ],
        "copied": {one.path: one.copy_from for one in models if one.copy_from is not None},
    }


def serving_plan(
    declared: object,
    name: str,
    address: str,
    facts: Mapping[str, Any],
    settings: Mapping[str, Any],
    known: Mapping[str, Any],
    what_if: str = "",
) -> dict[str, Any]:
    """Plan one host: ``{"plan": {...} or None, "problems": [{"where", "message", "code", "severity", "remedies"}]}``.

    Args:
        declared: the value of ``model_servers``.
        name: of the host in the inventory.
        address: by which clients reach it.
        facts: the fact ``gpu_host``.
        settings: the fields of `Settings`.
        known: ``descriptions`` and ``unread`` as model_facts returns them, ``copied``, what the filter
            model_description says of directories of the controller, by the models' paths on the host, and ``now``,
            the fact ``running_servers``.
        what_if: GPUs to plan for instead of the host's, such as 4xL40S.
    """
    descriptions, unread = dict(known.get("descriptions", {})), dict(known.get("unread", {}))
    for path, read in known.get("copied", {}).items():
        if read["description"]:
            descriptions[path] = read["description"]
        else:
            unread[path] = read["reason"]
    try:
        host = hypothetical(what_if, name, address) if what_if else Host.from_facts(name, address, facts)
    except ValueError as error:
        raise AnsibleFilterError(str(error)) from error
    plan, problems = make_plan(
        declared, host, Settings(**settings), FlagCatalogue.load(), descriptions, unread, known.get("now", {})
    )
    return {"plan": plan.as_dict() if plan else None, "problems": [asdict(problem) for problem in problems]}


def misspelt_variables(given: list[str], roles_directory: str) -> list[dict[str, Any]]:
    """Return a problem for each variable that nothing reads but that looks like one of ours."""
    public = {"model_servers"}
    roles = []
    for specs in sorted(Path(roles_directory).glob("*/meta/argument_specs.yml")):
        roles.append(specs.parents[1].name)
        public.add(f"{roles[-1]}_findings")  # what its entry point `look` sets
        for entry_point in yaml.safe_load(specs.read_text(encoding="utf-8"))["argument_specs"].values():
            public |= set(entry_point.get("options", {}))
        # Also what roles say to each other: a play sees the vars of the roles it imports.
        variables = specs.parents[1] / "vars" / "main.yml"
        public |= set(yaml.safe_load(variables.read_text(encoding="utf-8"))) if variables.exists() else set()
    return [asdict(problem) for problem in unknown_variables(given, public, roles)]


class FilterModule:
    """The filters of this project."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by the names templates use."""
        return {
            "declared_models": declared_models,
            "serving_plan": serving_plan,
            "serving_endpoints": endpoints,
            "looked_at_gateways": looked_at,
            "misspelt_variables": misspelt_variables,
            "systemd_argument": quote_argument,
            "systemd_word": quote_word,
            "units_in_state": in_state,
            "outdated_units": outdated,
            "server_units": server_units,
            "first_error": first_error,
        }
