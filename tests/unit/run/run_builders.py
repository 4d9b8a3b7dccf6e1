"""Events as ansible-runner sends them, shortened to what is read from them."""

from datetime import UTC, datetime
from typing import Any

START = datetime(2026, 1, 1, tzinfo=UTC).timestamp()


def event(kind: str, at: float = 0.0, stdout: str = "", pid: int = 42, **data: Any) -> dict[str, Any]:
    """An event `at` seconds after START."""
    created = datetime.fromtimestamp(START + at, UTC).isoformat()
    return {"event": kind, "created": created, "pid": pid, "stdout": stdout, "event_data": data}


def play(name: str, at: float = 0.0, uuid: str | None = None) -> dict[str, Any]:
    return event("playbook_on_play_start", at, name=name, play_uuid=uuid or name)


def task(name: str, at: float = 0.0, role: str | None = None) -> dict[str, Any]:
    return event("playbook_on_task_start", at, task=name, **({"role": role} if role else {}))


def begin(host: str, at: float = 0.0) -> dict[str, Any]:
    return event("runner_on_start", at, host=host)


def ok(host: str, at: float = 0.0, action: str = "ansible.builtin.command", **result: Any) -> dict[str, Any]:
    return event("runner_on_ok", at, host=host, resolved_action=action, res=result)


def failed(host: str, at: float = 0.0, ignore: bool = False, **result: Any) -> dict[str, Any]:
    return event("runner_on_failed", at, host=host, ignore_errors=ignore, res=result, task_path="/site/play.yml:7")


def unreachable(host: str, at: float = 0.0, msg: str = "timed out") -> dict[str, Any]:
    return event("runner_on_unreachable", at, host=host, res={"msg": msg})


def retry(host: str, attempt: int, of: int, at: float = 0.0, **result: Any) -> dict[str, Any]:
    return event("runner_retry", at, host=host, res={"attempts": attempt, "retries": of, **result})


def stats(at: float = 0.0, **counts: dict[str, int]) -> dict[str, Any]:
    hosts = {host for count in counts.values() for host in count}
    return event("playbook_on_stats", at, processed=dict.fromkeys(hosts, 1), **counts)


def recap(*lines: str) -> str:
    """The printed recap; each line as `host ok changed unreachable failed skipped rescued ignored`."""
    names = ("ok", "changed", "unreachable", "failed", "skipped", "rescued", "ignored")
    out = ["", "PLAY RECAP *************"]
    for line in lines:
        host, *numbers = line.split()
        out.append(f"{host:<26} : " + "    ".join(f"{n}={v}" for n, v in zip(names, numbers, strict=True)))
    return "\n".join(out) + "\n"
