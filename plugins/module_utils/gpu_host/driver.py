"""The NVIDIA driver's parts and what each says of itself, without asking the GPUs."""

from __future__ import annotations

import re

from ansible.module_utils.gpu_host.pci import address
from ansible.module_utils.gpu_host.processes import owner, users

LIBRARIES = (
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu/nvidia/current",
    "/usr/lib/aarch64-linux-gnu/nvidia/current",
    "/usr/lib64",
    "/usr/lib",
    "/usr/local/nvidia/lib64",
)
FIRMWARE = "/lib/firmware/nvidia"
FABRIC_MANAGER = "nvidia-fabricmanager.service"
PERSISTENCED = "nvidia-persistenced.service"
FABRIC_MANAGER_LOG = "/var/log/fabricmanager.log"
XIDS = 50

_VERSION = r"\d{3}\.\d+(?:\.\d+)?"
# What changes how the driver treats GPUs; the other forty say nothing that anybody acts on.
_PARAMETERS = ("NvLinkDisable", "EnableGpuFirmware", "ModifyDeviceFiles", "RegistryDwords", "ExcludedGpus")
_XID = re.compile(r"NVRM: Xid \(PCI:([0-9a-fA-F:.]+)\): (\d+),? ?(.*)")


def read_driver(source):
    """Return module, libraries, firmware and device files."""
    modules = _loaded_modules(source)
    return {
        "module": _module(source, "nvidia" in modules),
        "uvm_loaded": "nvidia_uvm" in modules,
        "nouveau_loaded": "nouveau" in modules,
        "nova_loaded": "nova_core" in modules,
        "userspace_version": _userspace_version(source),
        "firmware_versions": [
            name
            for name in source.names(FIRMWARE)
            if re.match(_VERSION + "$", name)
            and any(re.match(r"gsp.*\.bin", file) for file in source.names(f"{FIRMWARE}/{name}"))
        ],
        "devices": _devices(source),
    }


def _loaded_modules(source):
    """Return the names of the loaded modules; parts built into the kernel count."""
    listed = {line.split(" ")[0] for line in (source.read("/proc/modules") or "").splitlines()}
    # A built-in part has no initstate, and a directory only where it has parameters or a version.
    live = {"nvidia", "nvidia_uvm", "nouveau", "nova_core"}
    return listed | {name for name in live if source.word(f"/sys/module/{name}/initstate") == "live"}


def _module(source, loaded):
    """Return what is known of the kernel module: of the loaded one, else of the one on disk for the running kernel."""
    described = dict(re.findall(r"^(\w+):\s+(.*)$", source.run("modinfo", "nvidia").stdout, re.MULTILINE))
    text = source.read("/proc/driver/nvidia/version") or ""
    running = re.search(rf"^NVRM version:.*?\s({_VERSION})\s", text, re.MULTILINE)
    loaded = loaded or bool(running)
    licence = described.get("license")
    if not loaded:
        version, is_open = described.get("version"), None if licence is None else "MIT" in licence
    else:
        version = running.group(1) if running else source.word("/sys/module/nvidia/version")
        is_open = "Open Kernel Module" in text if running else None
    parameters = dict(re.findall(r"^(\w+): (.*)$", source.read("/proc/driver/nvidia/params") or "", re.MULTILINE))
    return {
        "loaded": loaded,
        "version": version,
        "open": is_open,
        "licence": licence,
        "parameters": {name: parameters[name].strip('"') for name in _PARAMETERS if name in parameters},
    }


def _userspace_version(source):
    """Return the version in the name of the library that programs get, else the highest that lies there."""
    found = []
    for directory in LIBRARIES:
        for library in ("libnvidia-ml.so", "libcuda.so"):
            pattern = re.escape(library) + rf"\.({_VERSION})$"
            link = f"{directory}/{library}.1"
            resolved = re.match(pattern, source.target(link).rpartition("/")[2])
            if resolved and source.exists(link):
                return resolved.group(1)
            matches = [re.match(pattern, name) for name in source.names(directory)]
            found += [match.group(1) for match in matches if match]
    return max(found, key=lambda version: [int(part) for part in version.split(".")]) if found else None


def _devices(source):
    """Return the driver's device files, by their names below /dev."""
    names = []
    for name in source.names("/dev"):
        if name.startswith("nvidia"):
            inner = source.names("/dev/" + name) if source.is_directory("/dev/" + name) else None
            names += [name] if inner is None else [f"{name}/{file}" for file in inner]
    return names


def read_services(source):
    """Return fabric_manager and persistenced."""
    answer = source.run(
        "systemctl", "show", "--property=Id,LoadState,ActiveState,MainPID", FABRIC_MANAGER, PERSISTENCED
    )
    units = {}
    for block in answer.stdout.split("\n\n") if answer.state == "ok" else []:
        properties = dict(line.partition("=")[::2] for line in block.splitlines())
        units[properties.get("Id")] = properties
    version = re.search(_VERSION, source.run("nv-fabricmanager", "--version").stdout)
    persistenced = units.get(PERSISTENCED, {})
    pid = persistenced.get("MainPID", "0")
    return {
        "fabric_manager": {
            "version": version.group(0) if version else None,
            "active": _active(units, FABRIC_MANAGER),
            "log": _fabric_manager_log(source, units.get(FABRIC_MANAGER, {}).get("LoadState") == "loaded"),
        },
        "persistenced": {
            "active": _active(units, PERSISTENCED),
            "user": owner(source, pid, users(source))["user"] if pid != "0" else None,
        },
    }


def _active(units, name):
    """Whether a unit runs; null where no systemd answers."""
    return units[name].get("ActiveState") == "active" if name in units else None


def _fabric_manager_log(source, installed):
    """Return the last line that Fabric Manager wrote."""
    text = source.read(FABRIC_MANAGER_LOG) or ""
    if not text.strip() and installed:
        text = source.run("journalctl", "--unit=" + FABRIC_MANAGER, "-b", "-o", "cat", "-n", "1", "--no-pager").stdout
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:500] if lines else None


def read_xids(source):
    """Return the driver's errors in the kernel log of this boot: each GPU's each number once, with how often."""
    text = source.run("journalctl", "-k", "-b", "-o", "cat", "--no-pager").stdout
    if not text.strip() or text.startswith("-- No entries"):  # no journal, or none that keeps kernel messages
        answer = source.run("dmesg")
        if answer.state != "ok":
            raise OSError("neither journalctl nor dmesg shows the kernel log")
        text = answer.stdout
    found = {}
    for line in text.splitlines():
        match = _XID.search(line)
        if not match:
            continue
        pci, xid = address(match.group(1)), int(match.group(2))
        if (pci, xid) in found:
            found[pci, xid]["count"] += 1
        elif len(found) < XIDS:
            found[pci, xid] = {"pci": pci, "xid": xid, "message": match.group(3).strip()[:300], "count": 1}
    return list(found.values())
