"""Misspelt inventory variables: Ansible ignores them in silence, this project does not."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from vllm_fleet.plan.problems import Problem, did_you_mean


def unknown_variables(given: Iterable[str], public: Iterable[str], roles: Iterable[str]) -> tuple[Problem, ...]:
    """Return a problem for each given variable that can only be a misspelt one of ours.

    Args:
        given: all variable names of a host.
        public: the variables this project reads.
        roles: role names; a variable that starts with one of them belongs to that role and must be public.
    """
    known = set(public)
    prefixes = tuple(f"{role}_" for role in roles)
    problems = []
    for name in sorted(set(given) - known):
        if name.startswith(prefixes) or difflib.get_close_matches(name, known, n=1, cutoff=0.88):
            problems.append(Problem(f"variable {name}", f"nothing reads it{did_you_mean(name, known)}"))
    return tuple(problems)
