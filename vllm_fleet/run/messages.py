"""What a task result says, in the words a person needs. Pure: result dictionary in, text out."""

import re
from collections.abc import Mapping
from typing import Any

Result = Mapping[str, Any]

HIDDEN = "The output is hidden because this task handles a secret (no_log)."
TAIL_LINES = 15
COMMAND_LENGTH = 200  # characters
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f\x80-\x9f]")
_PREFIX = re.compile(r"^(Task failed: |Module failed: |Action failed: )+")
# Messages of Ansible's own that say that something failed, but not what.
_SAYS_NOTHING = re.compile(
    r"^(non-zero return code|MODULE FAILURE.*|One or more items failed|Assertion failed|)$", re.DOTALL
)

# What ssh says, and what it means for the person who has to act on it.
_UNREACHABLE = (
    (r"Host key verification failed|IDENTIFICATION HAS CHANGED",
     "its SSH host key is not the one in known_hosts. Log in once by hand and compare the key, then try again."),
    (r"Permission denied|Authentication fail|Too many authentication failures",
     "it refused the login. Check ansible_user and the key (ansible_ssh_private_key_file)."),
    (r"Could not resolve|Name or service not known|Temporary failure in name resolution",
     "its name does not resolve. Check ansible_host."),
    (r"Connection refused", "nothing listens on its SSH port. Is sshd running, and is ansible_port right?"),
    (r"timed out|No route to host|Network is unreachable|Host is down",
     "it does not answer. Is it switched on, and does a firewall stand between?"),
    (r"Connection (closed|reset)|Broken pipe|lost connection",
     "the connection broke off. Is it rebooting, or out of memory?"),
)  # fmt: skip


def clean(text: object) -> str:
    """Text of unknown origin without escape sequences and control characters; newlines and tabs stay."""
    return _CONTROL.sub("", str(text).replace("\r\n", "\n")).rstrip()


def _as_text(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return "\n".join(clean(line) for line in value)
    return clean(value) if value is not None else ""


def _tail(text: str) -> str:
    lines = text.splitlines()
    cut = ["..."] if len(lines) > TAIL_LINES else []
    return "\n".join(cut + lines[-TAIL_LINES:])


def _label(result: Result) -> str:
    return clean(result.get("_ansible_item_label", result.get("item", "?")))


def _command(command: object) -> str:
    """A command line short enough for a sentence; the rest of a script is in the log."""
    words = " ".join(map(str, command)) if isinstance(command, list) else str(command)
    first, *more = clean(words).splitlines() or [""]
    return f"{first[:COMMAND_LENGTH]} ..." if more or len(first) > COMMAND_LENGTH else first


def failed_items(result: Result) -> list[Result]:
    """The failed items of a loop's result, empty for a task without a loop."""
    items = result.get("results")
    if not isinstance(items, list):
        return []
    return [item for item in items if isinstance(item, Mapping) and (item.get("failed") or item.get("unreachable"))]


def failure_text(result: Result) -> str:
    """Why a task failed: its message as it is, and where that says nothing, the end of what the command said."""
    if "censored" in result:
        return HIDDEN
    if failed := failed_items(result):
        text = f"Item {_label(failed[0])}: {failure_text(failed[0])}"
        others = ", ".join(_label(item) for item in failed[1:])
        return f"{text}\nAlso failed: {others}" if others else text
    message = _PREFIX.sub("", _as_text(result.get("msg")))
    parts = [message]
    if _SAYS_NOTHING.match(message):
        command = result.get("cmd")
        if command:
            parts = [f"The command `{_command(command)}` ended with status {result.get('rc')}."]
        elif "assertion" in result:
            parts = [f"This is not so: {clean(result['assertion'])}"]
        said = [_as_text(result.get(key)) for key in ("stderr", "module_stderr", "stdout", "module_stdout")]
        parts.append(_tail(next((text for text in said if text), "")))
    else:
        stderr = _as_text(result.get("stderr"))
        if stderr and stderr not in message:
            parts.append(_tail(stderr))
    return "\n".join(part for part in parts if part) or "The task gave no message."


def unreachable_text(result: Result) -> str:
    """Why a host could not be reached, with what to check."""
    said = _PREFIX.sub("", _as_text(result.get("msg")))
    meaning = next((text for pattern, text in _UNREACHABLE if re.search(pattern, said, re.IGNORECASE)), "")
    head = f"The host cannot be reached: {meaning}" if meaning else "The host cannot be reached."
    return f"{head}\n{_tail(said)}".rstrip()


def debug_text(result: Result) -> str:
    """What a debug task says: its message or, of a variable, its value."""
    if "censored" in result:
        return ""
    items = result.get("results")
    if isinstance(items, list):
        return "\n".join(filter(None, (debug_text(item) for item in items if isinstance(item, Mapping))))
    if "msg" in result:
        return _as_text(result["msg"])
    internal = {"changed", "failed", "skipped", "item", "ansible_loop_var", "exception"}
    shown = {key: value for key, value in result.items() if not key.startswith("_ansible_") and key not in internal}
    return "\n".join(f"{clean(key)}: {_as_text(value)}" for key, value in shown.items())


def attempt_text(result: Result) -> str:
    """The last line of what one attempt of a retried task said (roles put their progress there), empty if nothing."""
    if "censored" in result:
        return ""
    message = _as_text(result.get("msg"))
    said = _as_text(result.get("stdout")) or ("" if _SAYS_NOTHING.match(message) else message)
    lines = [line for line in said.splitlines() if line.strip()]
    return lines[-1].strip() if lines else ""
