"""Put the probes together into the one fact ``gpu_host``."""

from __future__ import annotations

from ansible.module_utils.gpu_host import driver, guards, kernels, pci, processes, smi, system
from ansible.module_utils.gpu_host.limits import in_children
from ansible.module_utils.gpu_host.source import Source

# What a probe that failed leaves: null for what is unknown, and the same keys on every host.
_EMPTY = {
    "platform": {
        "os": {"id": None, "id_like": [], "version_id": None, "name": None},
        **dict.fromkeys(("architecture", "kernel", "python", "systemd", "boot_id", "virtualization")),
    },
    "clock": {"time": None, "time_synchronized": None},
    "hardware": {
        "cpus": [],
        "memory_total_bytes": None,
        "memory_available_bytes": None,
        "numa_nodes": [],
        "iommu": {"enabled": None, "passthrough": None},
    },
    "secure_boot": {"enabled": None, "mok_enrolled": None},
    "kernels": [],
    "compiler": {"cc": None, "kernel_cc": None},
    "pci": {"pci_gpus": [], "nvswitches": []},
    "driver": {
        "module": {"loaded": None, "version": None, "open": None, "licence": None, "parameters": {}},
        **dict.fromkeys(("uvm_loaded", "nouveau_loaded", "nova_loaded", "userspace_version")),
        "firmware_versions": [],
        "devices": [],
    },
    "services": {
        "fabric_manager": {"version": None, "active": None, "log": None},
        "persistenced": {"active": None, "user": None},
    },
    "smi": {
        "smi": {"state": "hangs", "message": "nvidia-smi could not be asked"},
        "cuda_version": None,
        "gpus": None,
        "links": [],
    },
    "xids": [],
    "processes": {"listeners": [], "holders": []},
    "guards": {"selinux": {"enforcing": None, "haproxy_connect_any": None}, "firewalls": []},
}
# A probe runs up to three commands; each is given up by itself, and its probe only if even that did not help.
_COMMANDS = 3
_GRACE = 5


def collect(root="/", timeout=20, paths=()):
    """Read a host.

    Args:
        root: below which directory it lies.
        timeout: seconds that any one command may take.
        paths: whose file systems are reported.
    """
    source = Source(root, timeout)
    probes = {
        "platform": lambda: system.read_platform(source),
        "clock": lambda: system.read_clock(source),
        "hardware": lambda: system.read_hardware(source),
        "secure_boot": lambda: system.read_secure_boot(source),
        "kernels": lambda: kernels.read_kernels(source),
        "compiler": lambda: kernels.read_compiler(source),
        "pci": lambda: pci.read_pci(source),
        "driver": lambda: driver.read_driver(source),
        "services": lambda: driver.read_services(source),
        "smi": lambda: smi.read_smi(source),
        "xids": lambda: driver.read_xids(source),
        "processes": lambda: processes.read_processes(source),
        "guards": lambda: guards.read_guards(source),
    }
    wanted = list(dict.fromkeys([*paths, "/dev/shm"]))  # noqa: S108 - its size is asked for, nothing is put there
    probes.update({"disk " + path: _disk(source, path) for path in wanted})
    limit = timeout * _COMMANDS + _GRACE
    answers, trouble = in_children({name: (_noting(source, probe), limit) for name, probe in probes.items()})
    read = {name: answer and answer["found"] for name, answer in answers.items()}
    unread = [{"probe": name, "reason": reason} for name, reason in sorted(trouble.items())]
    for name, answer in sorted(answers.items()):
        hung = answer["hung"] if answer else []
        unread += [{"probe": name, "reason": f"{line} did not answer within {timeout} s"} for line in hung]
    found = {name: empty if read[name] is None else read[name] for name, empty in _EMPTY.items()}
    mounts = source.read("/proc/self/mounts") or ""
    disks = {
        path: read["disk " + path]
        or {"path": path, "mount": system.mount_of(mounts, path), "total_bytes": None, "free_bytes": None}
        for path in wanted
    }
    facts = {}
    for name in ("platform", "clock", "hardware", "guards"):
        facts.update(found[name])
    driver_says, holders = found["smi"], found["processes"]["holders"]
    nvidia = dict(found["driver"], **found["services"])
    nvidia.update(cuda_version=driver_says["cuda_version"], smi=driver_says["smi"], xids=found["xids"], holders=holders)
    facts.update(found["pci"], kernels=found["kernels"], secure_boot=found["secure_boot"], compiler=found["compiler"])
    facts.update(
        nvidia=nvidia,
        gpus=driver_says["gpus"],
        links=driver_says["links"],
        listeners=found["processes"]["listeners"],
        shm_bytes=disks["/dev/shm"]["total_bytes"],  # noqa: S108
        disks=[disks[path] for path in paths],
        unread=unread,
    )
    return facts


def _noting(source, probe):
    """Return a probe that also tells which commands hung."""
    return lambda: {"found": probe(), "hung": source.hung}


def _disk(source, path):
    """Return the probe of one path."""
    return lambda: system.read_disk(source, path)
