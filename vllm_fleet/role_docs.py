"""Write README.md of each role from its argument specs. Run by scripts/role-docs.

The specs are what Ansible checks, so a README made from them cannot disagree with the role.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

ROLES = Path(__file__).resolve().parents[1] / "roles"


def roles(root: Path = ROLES) -> list[Path]:
    """Return the directories of all roles that have argument specs."""
    return sorted(path.parents[1] for path in root.glob("*/meta/argument_specs.yml"))


def load(path: Path) -> dict[str, Any]:
    """Read a YAML mapping; a file that is not there is an empty one."""
    return dict(yaml.safe_load(path.read_text(encoding="utf-8")) or {}) if path.exists() else {}


def markdown(text: str) -> str:
    """Turn Ansible's markup, such as O(name) and V(value), into Markdown."""
    return re.sub(r"\b[OVCI]\(([^)]*)\)", r"`\1`", text)


def paragraphs(text: str | Iterable[str]) -> str:
    """Join the paragraphs of a description."""
    return "\n\n".join(markdown(part.strip()) for part in ([text] if isinstance(text, str) else text))


def option_text(name: str, option: Mapping[str, Any], level: int = 3) -> str:
    """Describe one variable, and the keys of its elements below it."""
    facts = [option["type"] + (f" of {option['elements']}" if "elements" in option else "")]
    if "choices" in option:
        facts.append("one of " + ", ".join(f"`{choice}`" for choice in option["choices"]))
    if option.get("required"):
        facts.append("required")
    elif "default" in option:
        value = yaml.safe_dump(option["default"], default_flow_style=True, width=1000).removesuffix("\n...\n").strip()
        facts.append(f"default `{value}`")
    lines = [f"{'#' * level} `{name}`", f"{'; '.join(facts)}", paragraphs(option["description"])]
    lines += [option_text(key, value, level + 1) for key, value in option.get("options", {}).items()]
    return "\n\n".join(lines)


def readme(role: Path) -> str:
    """Return the README of one role."""
    specs = load(role / "meta" / "argument_specs.yml")["argument_specs"]
    main = specs["main"]
    parts = [
        f"# {role.name}",
        f"{markdown(main['short_description'])}.",
        paragraphs(main.get("description", [])),
        "<!-- Made by scripts/role-docs from meta/argument_specs.yml. -->",
    ]
    others = {name: spec for name, spec in specs.items() if name != "main"}
    if others:
        parts.append("## Entry points")
        parts.append("\n".join(f"- `{name}`: {markdown(spec['short_description'])}." for name, spec in others.items()))
    if main.get("options"):
        parts.append("## Variables")
        parts += [option_text(name, option) for name, option in main["options"].items()]
    exported = [name for name in load(role / "vars" / "main.yml") if not name.startswith("__")]
    if exported:
        parts.append("## Variables for other roles")
        parts.append("\n".join(f"- `{name}`" for name in exported))
    platforms = load(role / "meta" / "main.yml").get("galaxy_info", {}).get("platforms", [])
    if platforms:
        parts.append("## Platforms")
        parts.append("\n".join(f"- {entry['name']} {', '.join(entry['versions'])}" for entry in platforms))
    return "\n\n".join(part for part in parts if part) + "\n"


def main() -> int:
    """Write the README of every role; with --check only name those that are not current."""
    stale = 0
    for role in roles():
        path, text = role / "README.md", readme(role)
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        stale += 1
        if "--check" not in sys.argv:
            path.write_text(text, encoding="utf-8")
        print(path.relative_to(ROLES.parent))
    return int("--check" in sys.argv and stale > 0)


if __name__ == "__main__":
    raise SystemExit(main())
