"""systemd units as text: quoting what goes in, reading what `systemctl show` prints."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

# Named as the units of model servers, and serving no model; the module utility model_servers/units.py, which goes to
# hosts without this file, says the same.
RESERVED_NAMES = ("gateway", "gateway-lookup", "firewall")
_SERVER_UNIT = re.compile(r"vllm-(.+)\.service")
_ERROR = re.compile(r"\b\w*(Error|Exception)\b|\berror:|\bValue error,|vllm-notify: (cannot|vllm)|Failed to", re.ASCII)
# Lines that name an exception class only to re-raise, to wrap another process's error, or to warn of one.
_FOLLOW_UP = re.compile(
    r"Traceback|raise |EngineCore failed to start|Engine core initialization failed|(?:^|\) )(?:DEBUG|INFO|WARNING) \d"
)
_PLAIN = re.compile(r"[\w@+=:,./|{}\[\]*-]+", re.ASCII)


def server_units(files: Iterable[str]) -> list[str]:
    """Return the units of model servers among names of files."""
    found = ((name, _SERVER_UNIT.fullmatch(name)) for name in sorted(files))
    return [name for name, match in found if match and match[1] not in RESERVED_NAMES]


def quote_word(word: object) -> str:
    """Quote one word for a unit file (``Environment=`` and other settings that split words)."""
    text = str(word).replace("%", "%%")
    if _PLAIN.fullmatch(text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    return f'"{escaped}"'


def quote_argument(word: object) -> str:
    """Quote one word of ``ExecStart=``, where ``$`` would otherwise name a variable."""
    return quote_word(word).replace("$", "$$")


def parse_show(text: str) -> dict[str, dict[str, str]]:
    """Read ``systemctl show UNIT... -p Id -p ...``: blocks of ``Key=value`` by their ``Id``."""
    blocks = (dict(line.partition("=")[::2] for line in block.splitlines()) for block in text.split("\n\n"))
    return {block["Id"]: block for block in blocks if block.get("Id")}


def in_state(shown: str, state: str) -> list[str]:
    """Return the units that ``systemctl show`` reports with this ``ActiveState``."""
    return [unit for unit, properties in parse_show(shown).items() if properties.get("ActiveState") == state]


def outdated(units: Iterable[str], shown: str, files: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the units that run with older settings than those on disk.

    A run that was interrupted between writing a unit and restarting it is caught by this on the next one.

    Args:
        units: the unit names to judge.
        shown: ``systemctl show`` with Id and ExecMainStartTimestamp, in UTC.
        files: results of ``find``: mappings with ``path`` and ``mtime`` (seconds since the epoch). A unit file
            speaks for its unit, any other file (wrapper, credential) for all of them.
    """
    state = parse_show(shown)
    changed: dict[str, float] = {}
    shared = 0.0
    for file in files:
        name, mtime = str(file["path"]).rpartition("/")[2], float(file["mtime"])
        if name.endswith(".service"):
            changed[name] = mtime
        else:
            shared = max(shared, mtime)
    found = []
    for unit in units:
        started = _seconds(state.get(unit, {}).get("ExecMainStartTimestamp", ""))
        # Times of `systemctl show` are whole seconds: a start in the second of the change counts as after it.
        if started is not None and started < int(max(changed.get(unit, 0.0), shared)):
            found.append(unit)
    return found


def _seconds(timestamp: str) -> int | None:
    """Return systemd's ``Thu 2026-11-26 15:53:31 UTC`` as seconds since the epoch, None where there is none."""
    if not timestamp.endswith(" UTC"):
        return None
    return int(datetime.strptime(timestamp[4:], "%Y-%m-%d %H:%M:%S UTC").replace(tzinfo=UTC).timestamp())


def first_error(journal: str) -> str:
    """Return the lines of a server's journal that tell why its last start failed.

    The first error of all processes is the cause; what follows are other processes noticing it.
    """
    lines = [line for line in journal.splitlines() if line.strip()]
    starts = [i for i, line in enumerate(lines) if line.startswith("Starting vllm-")]
    last = lines[starts[-1] :] if starts else lines
    errors = [line for line in last if _ERROR.search(line) and not _FOLLOW_UP.search(line)]
    return "\n".join(errors[:3] or last[-5:] or ["(the journal is empty)"])
