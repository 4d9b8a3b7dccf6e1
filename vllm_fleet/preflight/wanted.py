"""What a run wants of a host, against which its facts are held; and how facts that may be missing are read."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Facts = Mapping[str, Any]


@dataclass(frozen=True)
class Wanted:
    """The run's intentions for one host.

    ``min_driver`` is a branch such as "580"; ``servers`` and ``disk_needs`` are as the serving plan and the roles
    export them. ``driver_managed``: the run installs and repairs the NVIDIA driver. ``reboot_allowed``: it may also
    reboot the host for that. ``presigned_modules``: it installs modules that Secure Boot trusts.
    """

    backend: str = "cuda"
    min_driver: str = "580"
    min_compute_capability: str = "7.5"
    driver_managed: bool = True
    reboot_allowed: bool = False
    presigned_modules: bool = False
    servers: Sequence[Mapping[str, Any]] = ()
    disk_needs: Sequence[Mapping[str, Any]] = field(default_factory=tuple)


def look(facts: Facts, *keys: str) -> Any:
    """Return the value below `keys`, or None where any step of the way is missing or null: unknown, never a guess."""
    value: Any = facts
    for key in keys:
        if not isinstance(value, Mapping):
            return None
        value = value.get(key)
    return value


def items(facts: Facts, *keys: str) -> list[Mapping[str, Any]]:
    """Return the list of mappings below `keys`, an empty one where it is unknown."""
    value = look(facts, *keys)
    return list(value) if isinstance(value, list) else []


def version(text: str | None) -> tuple[int, ...]:
    """Return the numbers of a version, so that 10 is more than 8: "580.159.04" gives (580, 159, 4)."""
    return tuple(int(part) for part in re.findall(r"\d+", text or ""))


def driver_present(facts: Facts) -> bool:
    """Whether an NVIDIA driver is installed: loaded, built for a kernel, or there as a library."""
    return bool(
        look(facts, "nvidia", "module", "loaded")
        or look(facts, "nvidia", "userspace_version")
        or any(kernel.get("nvidia_module") for kernel in items(facts, "kernels"))
    )


def names(values: Sequence[object], limit: int = 4) -> str:
    """Join for a sentence: a and b; a, b and 3 more."""
    shown = [str(value) for value in values[:limit]]
    if len(values) > limit:
        shown.append(f"{len(values) - limit} more")
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
