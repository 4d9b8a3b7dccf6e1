"""Filters over vllm_fleet: the serving plan of a host, its endpoints, and the text of systemd units."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from vllm_fleet.plan.endpoints import endpoints  # noqa: E402 - found by the path set above
from vllm_fleet.plan.flags import FlagCatalogue  # noqa: E402
from vllm_fleet.plan.host import Host  # noqa: E402
from vllm_fleet.plan.serving import make_plan  # noqa: E402
from vllm_fleet.plan.settings import Settings  # noqa: E402
from vllm_fleet.plan.variables import unknown_variables  # noqa: E402
from vllm_fleet.units import first_error, in_state, outdated, quote_argument, quote_word  # noqa: E402


def serving_plan(
    declared: object, name: str, address: str, facts: Mapping[str, Any], settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Plan one host: ``{"plan": {...} or None, "problems": ["host: where: what", ...]}``."""
    plan, problems = make_plan(
        declared, Host.from_facts(name, address, facts), Settings(**settings), FlagCatalogue.load()
    )
    return {"plan": plan.as_dict() if plan else None, "problems": [str(problem) for problem in problems]}


def misspelt_variables(given: list[str], roles_directory: str) -> list[str]:
    """Return a sentence for each variable that nothing reads but that looks like one of ours."""
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
    return [str(problem) for problem in unknown_variables(given, public, roles)]


class FilterModule:
    """The filters of this project."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by the names templates use."""
        return {
            "serving_plan": serving_plan,
            "serving_endpoints": endpoints,
            "misspelt_variables": misspelt_variables,
            "systemd_argument": quote_argument,
            "systemd_word": quote_word,
            "units_in_state": in_state,
            "outdated_units": outdated,
            "first_error": first_error,
        }
