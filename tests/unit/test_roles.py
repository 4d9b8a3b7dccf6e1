"""Every role says what it takes, and says it once: argument specs, defaults, README and entry points agree."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from vllm_fleet import role_docs

ROLES = role_docs.roles()


def specs_of(role: Path) -> dict[str, Any]:
    return dict(role_docs.load(role / "meta" / "argument_specs.yml")["argument_specs"])


@pytest.fixture(params=ROLES, ids=lambda role: role.name)
def role(request: pytest.FixtureRequest) -> Path:
    return Path(request.param)


def test_every_role_has_argument_specs() -> None:
    assert [path.name for path in ROLES] == sorted(path.parent.name for path in role_docs.ROLES.glob("*/tasks"))


def test_defaults_and_argument_specs_agree(role: Path) -> None:
    options = specs_of(role)["main"].get("options", {})
    specified = {name: option["default"] for name, option in options.items() if not option.get("required")}
    assert role_docs.load(role / "defaults" / "main.yml") == specified


def test_every_variable_is_described_and_typed(role: Path) -> None:
    for entry_point, spec in specs_of(role).items():
        for name, option in spec.get("options", {}).items():
            assert option.get("description"), f"{role.name}, {entry_point}: {name} has no description"
            assert option.get("type"), f"{role.name}, {entry_point}: {name} has no type"


def test_variables_carry_the_name_of_their_role(role: Path) -> None:
    public = role_docs.load(role / "defaults" / "main.yml")
    internal = role_docs.load(role / "vars" / "main.yml")
    wrong = [name for name in public if not name.startswith(f"{role.name}_")]
    wrong += [name for name in internal if not name.startswith((f"{role.name}_", f"__{role.name}_"))]
    assert wrong == []


def test_no_fact_of_a_module_hides_a_variable_of_the_inventory() -> None:
    """Unless told otherwise Ansible makes variables of facts, and they win."""
    modules = (ROLES[0].parents[1] / "plugins" / "modules").glob("*.py")
    facts = {name for path in modules for name in re.findall(r'ansible_facts=\{"(\w+)"', path.read_text())}
    declared = {name for role in ROLES for name in role_docs.load(role / "defaults" / "main.yml")} | {"model_servers"}
    assert {"gpu_host", "running_servers"} <= facts
    assert facts & declared == set()


def test_every_entry_point_has_its_tasks(role: Path) -> None:
    missing = [name for name in specs_of(role) if not (role / "tasks" / f"{name}.yml").exists()]
    assert missing == []


def test_task_files_are_short_enough_to_read(role: Path) -> None:
    lengths = {path.name: len(path.read_text().splitlines()) for path in (role / "tasks").glob("*.yml")}
    assert {name: lines for name, lines in lengths.items() if lines > 120} == {}


def test_only_builtin_modules_and_our_own_are_used(role: Path) -> None:
    ours = {path.stem for path in (role_docs.ROLES.parent / "plugins" / "modules").glob("*.py")}
    for path in (role / "tasks").glob("*.yml"):
        for task in flatten(yaml.safe_load(path.read_text()) or []):
            collections = [key for key in task if "." in key]
            assert all(key.startswith("ansible.builtin.") for key in collections), f"{path}: {collections}"
            assert collections or "block" in task or ours & set(task), f"{path}: {task.get('name')} has no known module"


def flatten(tasks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return tasks with those inside blocks."""
    inside = [task.get(key, []) for task in tasks for key in ("block", "rescue", "always")]
    return tasks + [task for group in inside for task in flatten(group)]


def test_the_readme_is_made_from_the_specs(role: Path) -> None:
    path = role / "README.md"
    assert path.exists(), "run: make docs"
    assert path.read_text() == role_docs.readme(role), "run: make docs"
