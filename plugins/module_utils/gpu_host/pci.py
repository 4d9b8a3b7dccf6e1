"""GPUs and NVSwitches on the PCI bus, which are seen there without any driver."""

from __future__ import annotations

import re

from ansible.module_utils.gpu_host.pci_ids import NVSWITCHES, VENDOR, describe
from ansible.module_utils.gpu_host.source import number

DEVICES = "/sys/bus/pci/devices"
# Drivers whose name in sysfs is not that of their module.
_DRIVERS = {"novacore": "nova_core", "nova-core": "nova_core"}


def address(text):
    """Return a bus address as the kernel writes it: nvidia-smi's "00000000:18:00.0" is "0000:18:00.0"."""
    match = re.match(r"([0-9a-f]+):([0-9a-f]{2}):([0-9a-f]{2})(?:\.([0-7]))?$", (text or "").strip().lower())
    if not match:
        return None
    return "{:04x}:{}:{}.{}".format(int(match.group(1), 16), match.group(2), match.group(3), match.group(4) or "0")


def read_pci(source):
    """Return pci_gpus and nvswitches."""
    gpus, switches = [], []
    for name in source.names(DEVICES):
        top = f"{DEVICES}/{name}"
        vendor, device, kind = (_hexadecimal(source, top, file) for file in ("vendor", "device", "class"))
        if vendor != VENDOR or not re.match(r"[0-9a-f]{4}$", device):
            continue
        found = {"address": name, "id": f"{vendor}:{device}", "driver": _driver(source, top)}
        if device in NVSWITCHES:
            switches.append(found)
        elif kind.startswith("03"):  # VGA or 3D controller; a card's sound and USB functions are none
            product, architecture, capability = describe(device)
            node = number(source.read(top + "/numa_node"))
            gpus.append(
                dict(
                    found,
                    name=product,
                    architecture=architecture,
                    compute_capability=capability,
                    numa_node=node if node is not None and node >= 0 else None,
                    responds=_responds(source, top),
                )
            )
    return {"pci_gpus": gpus, "nvswitches": switches}


def _hexadecimal(source, top, file):
    """Return a number of sysfs ("0x10de") without its prefix."""
    return (source.word(f"{top}/{file}") or "").replace("0x", "", 1).lower()


def _driver(source, top):
    """Return the name of the driver a device is bound to."""
    link = source.link(top + "/driver")
    name = link.rpartition("/")[2] if link else None
    return _DRIVERS.get((name or "").lower(), name)


def _responds(source, top):
    """Whether a device answers on the bus: one that fell off reads as all ones, though sysfs still lists it."""
    beginning = (source.read_bytes(top + "/config") or b"")[:4]
    return beginning != b"\xff\xff\xff\xff" if len(beginning) == 4 else None
