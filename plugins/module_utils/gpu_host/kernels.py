"""Installed kernels, what each has for the driver, and the compilers."""

from __future__ import annotations

import re

# Where a module is put that does not come with the kernel: DKMS, EL's kmod packages, Ubuntu's pre-built ones.
_PLACES = ("updates/dkms", "updates", "extra", "extra/nvidia", "weak-updates", "kernel/drivers/video")


def read_kernels(source):
    """Return every installed kernel: release, whether its headers are there, the nvidia module built for it."""
    kernels = []
    for release in source.names("/lib/modules"):
        top = f"/lib/modules/{release}"
        # A removed kernel can leave its directory with what DKMS had put there.
        if source.exists(top + "/modules.builtin") or source.is_directory(top + "/kernel"):
            headers = source.exists(top + "/build/Makefile")
            kernels.append({"release": release, "headers": headers, "nvidia_module": _module_file(source, top)})
    return kernels


def _module_file(source, top):
    """Return the path of a kernel's nvidia module: the one modprobe would load, else one that lies about."""
    listed = re.findall(r"^(\S*/nvidia\.ko\S*):", source.read(top + "/modules.dep") or "", re.MULTILINE)
    found = [path if path.startswith("/") else f"{top}/{path}" for path in listed]
    for place in _PLACES:
        directory = f"{top}/{place}"
        found += [f"{directory}/{name}" for name in source.names(directory) if name.startswith("nvidia.ko")]
    return next((path for path in found if source.exists(path)), None)


def read_compiler(source):
    """Return the host's C compiler, and the one that built the running kernel."""
    cc = None
    for name in ("gcc", "cc"):
        match = re.match(r"\S+ \(.*?\) (\d+\.\d+\S*)", source.run(name, "--version").stdout)
        if match:
            cc = f"{name} {match.group(1)}"
            break
    built = re.search(r"\(([\w.+-]*(?:gcc|clang)\b.*?),", source.read("/proc/version") or "")
    return {"cc": cc, "kernel_cc": built.group(1) if built else None}
