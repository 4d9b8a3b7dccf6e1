"""Who listens on ports, and who holds GPUs."""

from __future__ import annotations

import re


def unit_of(cgroup):
    """Return the systemd service in the text of /proc/PID/cgroup, or None."""
    names = [part for line in cgroup.splitlines() for part in line.split("/") if part.endswith(".service")]
    return names[-1] if names else None


def listening_inodes(text):
    """Map socket inode to port for each listening socket of /proc/net/tcp or tcp6."""
    rows = [line.split() for line in text.splitlines()[1:]]
    return {row[9]: int(row[1].rpartition(":")[2], 16) for row in rows if len(row) > 9 and row[3] == "0A"}


def users(source):
    """Return the names of users by number; the file only, as a directory service can hang."""
    rows = [line.split(":") for line in (source.read("/etc/passwd") or "").splitlines()]
    return {row[2]: row[0] for row in rows if len(row) > 2}


def owner(source, pid, names):
    """Return {user, unit} of a process, null where it is gone or belongs to another PID namespace."""
    status = re.search(r"^Uid:\s+\d+\s+(\d+)", source.read(f"/proc/{pid}/status") or "", re.MULTILINE)
    user = status.group(1) if status else None
    # systemd's own note of a user that exists only while its unit runs.
    dynamic = source.link(f"/run/systemd/dynamic-uid/direct:{user}") if user not in names else None
    return {"user": names.get(user, dynamic or user), "unit": unit_of(source.read(f"/proc/{pid}/cgroup") or "")}


def read_processes(source):
    """Return (listeners, holders of GPU devices); needs root to see other users' processes."""
    ports = {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        ports.update(listening_inodes(source.read(table) or ""))
    names = users(source)
    listeners, holders = [], []
    for pid in (name for name in source.names("/proc") if name.isdigit()):
        directory = f"/proc/{pid}/fd"
        links = {source.link(f"{directory}/{fd}") or "" for fd in source.names(directory)}
        sockets = {link[8:-1] for link in links if link.startswith("socket:[")} & set(ports)
        devices = sorted(link[5:] for link in links if re.match(r"/dev/nvidia(\d+|-uvm)$", link))
        if not (sockets or devices):
            continue
        process = source.word(f"/proc/{pid}/comm")
        belongs = owner(source, pid, names)
        for inode in sockets:
            listeners.append({"port": ports[inode], "pid": int(pid), "process": process or "", "unit": belongs["unit"]})
        if devices:
            holders.append(dict(belongs, pid=int(pid), name=process, devices=devices))
    listeners.sort(key=lambda listener: (listener["port"], listener["pid"]))
    return {"listeners": listeners, "holders": sorted(holders, key=lambda holder: holder["pid"])}
