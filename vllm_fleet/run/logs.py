"""Where a run is logged: one private directory per run, the last twenty are kept."""

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vllm_fleet.errors import FleetError
from vllm_fleet.run.events import TaskRun
from vllm_fleet.run.playbook import CHECKOUT

RUNS = CHECKOUT / ".vllm-fleet" / "runs"
KEPT = 20
_NAME = re.compile(r"^\d{8}T\d{6}Z(-\d+)?$")


@dataclass(frozen=True)
class History:
    """What the last good run of the same job says about this one: how many tasks, and how long each took (seconds)."""

    tasks: int | None = None
    seconds: Mapping[tuple[str, str], float] = field(default_factory=dict)


def new_run(runs: Path = RUNS, kept: int = KEPT) -> Path:
    """A new directory for a run, readable to its owner only, named by the time (UTC); the oldest beyond `kept` go.

    Raises FleetError where it cannot be made.
    """
    name = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    try:
        runs.mkdir(parents=True, exist_ok=True, mode=0o700)
        for number in range(100):
            run = runs / (f"{name}-{number}" if number else name)
            try:
                run.mkdir(mode=0o700)
            except FileExistsError:
                continue
            break
        else:
            raise FleetError(f"{runs} already holds a hundred runs named {name}: is the clock standing still?")
    except OSError as error:
        raise FleetError(f"The log of this run cannot be written: {error}. Make {runs} writable.") from error
    for old in _names(runs)[:-kept]:
        shutil.rmtree(old, ignore_errors=True)
    return run


def _names(runs: Path) -> list[Path]:
    return sorted(path for path in runs.iterdir() if _NAME.match(path.name) and path.is_dir())


def read_events(run: Path) -> Iterator[dict[str, Any]]:
    """The events of a run as they lie on disk, in order; an unreadable one is left out."""
    files = [path for path in (run / "job_events").glob("*-*.json") if path.name.partition("-")[0].isdigit()]
    for path in sorted(files, key=lambda path: int(path.name.partition("-")[0])):
        if path.name.endswith("-partial.json"):
            continue
        try:
            yield json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue


def read_log(run: Path) -> str:
    """What ansible-playbook printed, empty if nothing is there. Its line ends, a terminal's, become plain ones."""
    path = run / "stdout"
    try:
        raw = path.read_bytes()
        plain = raw.replace(b"\r\n", b"\n")
        if plain != raw:
            path.write_bytes(plain)
    except OSError:
        return ""
    return plain.decode(errors="replace")


def write_history(run: Path, job: str, status: str, tasks: tuple[TaskRun, ...]) -> None:
    """Note what the run took, for the next one's estimates. `job` names playbook and options without any secret."""
    timings = [{"stage": task.stage, "task": task.name, "seconds": round(task.seconds(0), 2)} for task in tasks]
    path = run / "timings.json"
    path.touch(mode=0o600)
    path.write_text(json.dumps({"job": job, "status": status, "tasks": timings}, indent=1), encoding="utf-8")


def read_history(job: str, runs: Path = RUNS) -> History:
    """The last successful run of `job`, empty if none is kept."""
    for run in reversed(_names(runs) if runs.is_dir() else []):
        try:
            noted = json.loads((run / "timings.json").read_text(encoding="utf-8"))
            if noted["job"] == job and noted["status"] == "successful":
                seconds = {(entry["stage"], entry["task"]): float(entry["seconds"]) for entry in noted["tasks"]}
                return History(len(noted["tasks"]), seconds)
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return History()
