"""The units of model servers: their command lines and environments, as they run and as they lie on disk."""

from __future__ import annotations

import calendar
import re
import time

UNITS = "/etc/systemd/system"
UNIT = re.compile(r"vllm-(.+)\.service$")
# Named alike, and serving no model; vllm_fleet/units.py, which hosts do not have, says the same.
RESERVED_NAMES = ("gateway", "gateway-lookup", "firewall")
PROPERTIES = "Id,ActiveState,MainPID,InvocationID,ActiveEnterTimestamp"
# Variables that systemd, the template of the units, and every login set; what remains is the plan's.
SURROUNDINGS = re.compile(
    r"(PATH|HOME|LANG|LC_\w+|USER|LOGNAME|SHELL|TZ|PWD|INVOCATION_ID|JOURNAL_STREAM|NOTIFY_SOCKET|WATCHDOG_\w+|SYSTEMD_\w+"
    r"|\w+_DIRECTORY|MEMORY_PRESSURE_\w+|MAINPID|VLLM_CACHE_ROOT|TORCHINDUCTOR_CACHE_DIR|TRITON_CACHE_DIR|HF_HOME"
    r"|XDG_\w+)$"
)
_WORD = re.compile(r'"((?:[^"\\]|\\.)*)"|(\S+)', re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t"}


def read_units(source):
    """Return what each model server of the host is, by its name.

    ``unit``, ``active`` (what systemd says), ``since`` (seconds since the epoch, null where it is not active),
    ``invocation`` (of this start), ``argv`` (the words behind vllm), ``env``, ``probe`` (address and port to ask),
    ``release`` (name of vLLM's directory), ``visible`` (what CUDA sees), ``gpus`` and ``share``.
    """
    names = [match.group(1) for match in map(UNIT.match, source.names(UNITS)) if match]
    names = [name for name in names if name not in RESERVED_NAMES]
    if not names:
        return {}
    units = {name: f"vllm-{name}.service" for name in names}
    # In UTC and C, since systemd before 251 has no --timestamp=unix.
    words = ["env", "TZ=UTC", "LC_ALL=C", "systemctl", "show", f"--property={PROPERTIES}", *units.values()]
    shown = parse_show(source.run(*words).stdout)
    return {name: read_unit(source, unit, shown.get(unit, {})) for name, unit in units.items()}


def read_unit(source, unit, shown):
    """Return what one model server is, given what `systemctl show` says of its unit."""
    words, environment = running(source, shown.get("MainPID", "0"))
    words_on_disk, written = on_disk(source.read(f"{UNITS}/{unit}") or "")
    if not words:
        words, environment = words_on_disk, written
    wrapper, argv, release = split(words)
    # What the template itself sets lies in the cache directory; the rest of what is written was declared.
    declared = {name for name, value in written.items() if name != "PATH" and "%C" not in value}
    env = {name: value for name, value in environment.items() if name in declared or not SURROUNDINGS.match(name)}
    visible = [device for device in env.get("CUDA_VISIBLE_DEVICES", "").split(",") if device]
    active = shown.get("ActiveState")
    return {
        "unit": unit,
        "active": active,
        "since": seconds(shown.get("ActiveEnterTimestamp")) if active == "active" else None,
        "invocation": shown.get("InvocationID") or None,
        "argv": argv,
        "env": env,
        "probe": {"address": option(wrapper, "--address"), "port": option(wrapper, "--port")},
        "release": release,
        "gpus": [int(device) for device in visible if device.isdecimal()],
        "visible": visible,
        "share": fraction(option(argv, "--gpu-memory-utilization")),
    }


def parse_show(text):
    """Read ``systemctl show UNIT... --property=Id,...``: properties by the unit's name."""
    blocks = [dict(line.partition("=")[::2] for line in block.splitlines()) for block in text.split("\n\n")]
    return {block["Id"]: block for block in blocks if block.get("Id")}


def running(source, pid):
    """Return (words, environment) of a process, nothing where there is none."""
    if not pid.isdecimal() or pid == "0":
        return [], {}
    words = (source.read(f"/proc/{pid}/cmdline") or "").split("\0")[:-1]
    entries = (source.read(f"/proc/{pid}/environ") or "").split("\0")
    return words, dict(entry.partition("=")[::2] for entry in entries if "=" in entry)


def on_disk(text):
    """Return (words of ExecStart, environment) of the text of a unit."""
    words, environment = [], {}
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        name, _, value = line.partition("=")
        if name == "ExecStart":
            words = [word.replace("$$", "$") for word in split_words(value)]
        elif name == "Environment":
            environment.update(word.partition("=")[::2] for word in split_words(value))
    return words, environment


def split_words(text):
    """Split a setting of a unit into words, the way the template of the units quotes them."""
    words = []
    for quoted, plain in _WORD.findall(text):
        unescaped = re.sub(r"\\(.)", lambda match: _ESCAPES.get(match.group(1), match.group(1)), quoted)
        words.append((plain or unescaped).replace("%%", "%"))
    return words


def split(words):
    """Return (words of the wrapper, words behind vllm, name of vLLM's release) of a command line."""
    if "--" not in words[:-1]:
        return [], [], None
    at = words.index("--")
    program = words[at + 1].split("/")
    return words[:at], words[at + 2 :], program[-3] if len(program) > 2 else None


def option(words, name):
    """Return the word behind an option, None where it is not there."""
    at = words.index(name) if name in words else len(words)
    return words[at + 1] if at + 1 < len(words) else None


def seconds(timestamp):
    """Return systemd's ``Thu 2026-11-26 15:53:31 UTC`` as seconds since the epoch, None where there is none."""
    if not (timestamp or "").endswith(" UTC"):
        return None
    return calendar.timegm(time.strptime(timestamp[4:], "%Y-%m-%d %H:%M:%S UTC"))


def fraction(text):
    """Return a number as text, None where it is none."""
    try:
        return float(text)
    except (TypeError, ValueError):
        return None
