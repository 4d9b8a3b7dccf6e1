"""Operating system, processors, memory, clock and disks."""

from __future__ import annotations

import os
import platform
import re
import time

from ansible.module_utils.gpu_host.source import expand, number

EFIVARS = "/sys/firmware/efi/efivars"
SECURE_BOOT = EFIVARS + "/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
MOK_LIST = EFIVARS + "/MokListRT-605dab50-e046-4300-abb6-3dd810dd8b23"
# The key that DKMS signs with: Debian and EL; Ubuntu.
DKMS_KEYS = ("/var/lib/dkms/mok.pub", "/var/lib/shim-signed/mok/MOK.der")


def read_platform(source):
    """Return os, architecture, kernel, python, systemd, boot_id, virtualization."""
    kernel = source.word("/proc/sys/kernel/osrelease")
    if source.live:
        python, architecture, kernel = platform.python_version(), platform.machine(), platform.release()
    else:
        python = source.run("python3", "--version").stdout.replace("Python", "").strip() or None
        architecture = source.run("uname", "-m").stdout.strip() or None
    systemd = re.match(r"systemd (\d+)", source.run("systemctl", "--version").stdout)
    return {
        "os": os_release(source.read("/etc/os-release") or source.read("/usr/lib/os-release") or ""),
        "architecture": architecture,
        "kernel": kernel,
        "python": python,
        "systemd": int(systemd.group(1)) if systemd else None,
        "boot_id": source.word("/proc/sys/kernel/random/boot_id"),
        "virtualization": source.run("systemd-detect-virt").stdout.strip() or None,
    }


def os_release(text):
    """Read an os-release file."""
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line and not line.startswith("#"))
    fields = {name.strip(): value.strip().strip("\"'") for name, _, value in pairs}
    return {
        "id": fields.get("ID"),
        "id_like": fields.get("ID_LIKE", "").split(),
        "version_id": fields.get("VERSION_ID"),
        "name": fields.get("PRETTY_NAME"),
    }


def read_clock(source):
    """Return time and time_synchronized."""
    if source.live:
        now = time.time()
    else:
        told = number(source.run("date", "+%s").stdout)
        now = None if told is None else float(told)
    match = re.search(r"^NTPSynchronized=(yes|no)$", source.run("timedatectl", "show").stdout, re.MULTILINE)
    return {"time": now, "time_synchronized": match.group(1) == "yes" if match else None}


def read_hardware(source):
    """Return cpus, memory, numa_nodes, iommu."""
    sizes = _kilobytes(source.read("/proc/meminfo"))
    cpus = sorted(os.sched_getaffinity(0)) if source.live else expand(source.read("/sys/devices/system/cpu/online"))
    return {
        "cpus": cpus,
        "memory_total_bytes": sizes.get("MemTotal"),
        "memory_available_bytes": sizes.get("MemAvailable"),
        "numa_nodes": _numa_nodes(source),
        "iommu": _iommu(source),
    }


def _kilobytes(text):
    """Return the sizes of a meminfo file in bytes, by their names."""
    found = re.findall(r"^(?:Node \d+ )?(\w+):\s+(\d+) kB", text or "", re.MULTILINE)
    return {name: int(size) * 1024 for name, size in found}


def _numa_nodes(source):
    """Return the memory nodes with their processors."""
    top = "/sys/devices/system/node"
    return [
        {
            "node": int(name[4:]),
            "cpus": source.word(f"{top}/{name}/cpulist"),
            "memory_bytes": _kilobytes(source.read(f"{top}/{name}/meminfo")).get("MemTotal"),
        }
        for name in sorted(source.names(top), key=lambda name: (len(name), name))
        if re.match(r"node\d+$", name)
    ]


def _iommu(source):
    """Say whether addresses of GPUs are translated; what the kernel does beats what its command line asks for."""
    enabled = bool(source.names("/sys/class/iommu")) if source.is_directory("/sys/class") else None
    top = "/sys/bus/pci/devices"
    kinds = [
        source.word(f"{top}/{address}/iommu_group/type")
        for address in source.names(top)
        if source.word(f"{top}/{address}/vendor") == "0x10de"
    ]
    kinds = [kind for kind in kinds if kind]
    if kinds:
        return {"enabled": enabled, "passthrough": all(kind == "identity" for kind in kinds)}
    words = (source.read("/proc/cmdline") or "").split()
    asked = None
    for word in words:
        if word in ("iommu=pt", "iommu.passthrough=1"):
            asked = True
        elif word in ("iommu=nopt", "iommu.passthrough=0"):
            asked = False
    return {"enabled": enabled, "passthrough": asked}


def read_secure_boot(source):
    """Return whether Secure Boot is on, and whether the key DKMS signs with is enrolled."""
    if not source.is_directory("/sys/firmware"):
        return {"enabled": None, "mok_enrolled": None}
    if not source.is_directory("/sys/firmware/efi"):
        return {"enabled": False, "mok_enrolled": None}
    variable = source.read_bytes(SECURE_BOOT)
    if variable is not None and len(variable) >= 5:  # four bytes of attributes come first
        enabled = variable[4] == 1
    else:
        answer = source.run("mokutil", "--sb-state").stdout.lower()
        enabled = True if "secureboot enabled" in answer else False if "secureboot disabled" in answer else None
    return {"enabled": enabled, "mok_enrolled": _mok_enrolled(source)}


def _mok_enrolled(source):
    """Look for the DKMS key among the enrolled ones."""
    keys = {path: source.read_bytes(path) for path in DKMS_KEYS}
    keys = {path: content for path, content in keys.items() if content}
    if not keys:
        return False
    enrolled = source.read_bytes(MOK_LIST)
    if enrolled is not None and any(content in enrolled for content in keys.values()):
        return True
    for path in keys:
        answer = source.run("mokutil", "--test-key", path)
        said = answer.stdout + answer.stderr
        if "is already enrolled" in said:
            return True
        if "is not enrolled" in said or "already in the enrollment request" in said:
            return False
    return None if enrolled is None else False


def read_disk(source, path):
    """Return the file system that holds a path, or will hold it once it is made."""
    existing = path
    while existing != "/" and not source.exists(existing):
        existing = existing.rpartition("/")[0] or "/"
    # In a process that can be given up: a dead network file system never answers.
    answer = source.run("df", "-P", "-B1", existing)
    fields = (answer.stdout.splitlines() or [""])[-1].split(None, 5)
    known = len(fields) == 6 and fields[1].isdecimal() and fields[3].isdecimal()
    return {
        "path": path,
        "mount": fields[5] if known else mount_of(source.read("/proc/self/mounts") or "", path),
        "total_bytes": int(fields[1]) if known else None,
        "free_bytes": int(fields[3]) if known else None,
    }


def mount_of(mounts, path):
    """Return the mount point that holds a path by the text of /proc/self/mounts, touching no file system."""
    points = [line.split()[1].replace("\\040", " ") for line in mounts.splitlines() if len(line.split()) > 1]
    holding = [point for point in points if (path.rstrip("/") + "/").startswith(point.rstrip("/") + "/")]
    return max(holding, key=len) if holding else None
