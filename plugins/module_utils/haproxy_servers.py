"""The servers of a running HAProxy: how they are, taking them out, putting them back. Python 3.8, standard library."""

from __future__ import annotations

import csv
import re

from ansible.module_utils.haproxy import RELOAD, NotThere, refused

FORCED_MAINTENANCE, DRAIN, OUT = 0x01, 0x08, 0x7F  # bits of srv_admin_state
RUNNING = 2  # srv_op_state
SERVERS = "4 -1"  # of show stat: servers, all of them


def read_server(runtime, backend, name):
    """Return how one server of a backend is.

    Returns:
        ``out`` whether it gets no new requests by an operator's or the configuration's word, ``drain`` whether by
        ours, ``up`` whether it gets requests, ``sessions`` requests under way or queued for it, ``status`` and
        ``check`` in HAProxy's own words.

    Raises:
        RuntimeProblem: there is no such server.
    """
    command = f"show servers state {backend}"
    answer = runtime.ask(command)
    lines = [line.split() for line in answer.splitlines()]
    header = next((line[1:] for line in lines if line[:1] == ["#"]), None)
    if header is None:
        raise refused(runtime, command, answer)
    states = {}
    for line in lines:
        if len(line) >= len(header) and line[0] != "#":
            state = dict(zip(header, line))  # noqa: B905 - strict is 3.10
            states[state["srv_name"]] = state
    counts = read_counts(runtime, backend)
    if name not in states or name not in counts:
        known = ", ".join(states) or "none"
        raise NotThere(f"The gateway at {runtime.path} has no {name} in {backend}; it has: {known}. {RELOAD}")
    state, counted = states[name], counts[name]
    admin = int(state["srv_admin_state"])
    return {
        "out": bool(admin & OUT),
        "drain": bool(admin & (DRAIN | FORCED_MAINTENANCE)),
        "up": int(state["srv_op_state"]) == RUNNING and not admin & OUT,
        "sessions": sessions(counted),
        "status": counted["status"],
        "check": " ".join(word for word in (counted["check_status"], counted["last_chk"]) if word),
    }


def set_server(runtime, backend, name, state):
    """Take a server out (``drain``) or put it back (``ready``)."""
    runtime.tell(f"set server {backend}/{name} state {state}")


def read_counts(runtime, backend, worker=""):
    """Return the row of `show stat` of each server of a backend, by the servers' names.

    Args:
        runtime: the running HAProxy, or its master process.
        backend: name of the backend.
        worker: of a master process, which of its workers to ask, as ``@!4711``.
    """
    answer = runtime.ask(" ".join([*([worker] if worker else []), "show", "stat", backend, SERVERS]))
    return {row["svname"]: row for row in csv.DictReader(answer.lstrip("# ").splitlines()) if row.get("svname")}


def sessions(counted):
    """Return the requests under way and queued that a row of `show stat` tells of."""
    return int(counted["scur"] or 0) + int(counted["qcur"] or 0)


def former_sessions(master, backend, name):
    """Return the requests that former processes, left to end in peace by a reload, have under way with a server.

    Args:
        master: the master process, by its socket.
        backend: name of the backend.
        name: of the server.
    """
    try:
        processes = master.ask("show proc")
    except NotThere:
        return 0
    former = re.findall(r"^(\d+)\s+worker\s", processes.partition("# old workers")[2], re.MULTILINE)
    rows = [read_counts(master, backend, f"@!{pid}").get(name) for pid in former]
    return sum(sessions(row) for row in rows if row)
