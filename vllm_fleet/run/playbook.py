"""Which playbook is meant, and how many plays it has."""

from pathlib import Path
from typing import Any

import yaml

from vllm_fleet.errors import FleetError

CHECKOUT = Path(__file__).resolve().parents[2]


class _Loader(yaml.SafeLoader):
    """YAML that takes Ansible's own tags (!vault, !unsafe) as plain values: only the structure matters here."""


_Loader.add_multi_constructor("!", lambda loader, suffix, node: None)


def find_playbook(name: str, cwd: Path) -> Path:
    """The playbook called `name`: a path from `cwd`, else from the checkout, else a name in its playbooks/.

    Raises FleetError if there is none.
    """
    places = [cwd / name, CHECKOUT / name, CHECKOUT / "playbooks" / name, CHECKOUT / "playbooks" / f"{name}.yml"]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise FleetError(f"There is no playbook {name!r}, neither in {cwd} nor in {CHECKOUT} and its playbooks/.")
    return found.resolve()


def count_plays(playbook: Path) -> int | None:
    """How many plays `playbook` has with all that it imports; None where only Ansible can know (templated imports)."""
    try:
        with playbook.open(encoding="utf-8") as stream:
            entries: Any = yaml.load(stream, Loader=_Loader)  # noqa: S506 (a SafeLoader, see above)
    except (OSError, yaml.YAMLError):
        return None
    total = 0
    for entry in entries if isinstance(entries, list) else []:
        if not isinstance(entry, dict):
            return None
        imported = entry.get("ansible.builtin.import_playbook", entry.get("import_playbook"))
        plays = 1 if imported is None else count_plays(playbook.parent / str(imported))
        if plays is None:
            return None
        total += plays
    return total
