"""Records of former starts, a file for each server."""

from __future__ import annotations

import json
import math

DIRECTORY = "/var/lib/vllm-fleet/measured"
# What a start was made with; of a start with others nothing is kept.
SETTINGS = ("argv", "release", "backend", "device_names")
# What depends on the moment more than on the start.
FLEETING = ("invocation", "host_bytes", "device_bytes", "free_bytes")
TOLERANCE = 0.02


def read_record(source, name, directory=DIRECTORY):
    """Return the record of a server, None where there is none that can be read."""
    try:
        record = json.loads(source.read(f"{directory}/{name}.json") or "")
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def completed(record, known):
    """Return a record with what it does not know taken from a former start with the same settings.

    A vLLM that finds the result of its memory profiling in its cache reports less than one that profiles.
    """
    if not same_settings(record, known):
        return record
    return {name: known.get(name) if value is None else value for name, value in record.items()}


def says_more(record, known):
    """Whether a record tells something that a known one, or none, does not."""
    if not same_settings(record, known):
        return True
    numbers = {name: value for name, value in record.items() if name not in (*SETTINGS, *FLEETING)}
    return any(
        value is not None and (known.get(name) is None or not math.isclose(value, known[name], rel_tol=TOLERANCE))
        for name, value in numbers.items()
    )


def same_settings(record, known):
    """Whether two records are of starts with the same settings."""
    return known is not None and all(record.get(name) == known.get(name) for name in SETTINGS)


def stale(source, names, directory=DIRECTORY):
    """Return the files of servers that are no more."""
    kept = {f"{name}.json" for name in names}
    return [f"{directory}/{file}" for file in source.names(directory) if file.endswith(".json") and file not in kept]
