"""What nvidia-smi prints for GPUs that nobody lent: a recorded answer with the fields of the other product."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import yaml

HOSTS = Path(__file__).resolve().parent
HEAD = '<?xml version="1.0" ?>\n<!DOCTYPE nvidia_smi_log SYSTEM "nvsmi_device_v13.dtd">\n'
LEGEND = "\nLegend:\n\n  X    = Self\n  NV#  = Connection traversing a bonded set of # NVLinks\n"


def product(name: str) -> dict[str, Any]:
    """Return a product by its name in shared/products.yml."""
    found: dict[str, Any] = yaml.safe_load((HOSTS / "shared/products.yml").read_text())[name]
    return found


def node(gpus: dict[str, Any], index: int) -> int:
    """Return the memory node of a GPU: half of them at each, unless there is but one."""
    nodes: list[int] = gpus.get("nodes") or [0 if at < len(gpus["addresses"]) / 2 else 1 for at in _indexes(gpus)]
    return nodes[index]


def uuid(index: int) -> str:
    """Return a UUID that is nobody's."""
    return f"GPU-00000000-0000-4000-8000-{index:012d}"


def log(gpus: dict[str, Any], version: str, cuda: str) -> str:
    """Return what `nvidia-smi -q -x` prints."""
    made = product(gpus["product"])
    # Python's parser keeps the white space, so that the structure stays the recorded one.
    top = ElementTree.parse(HOSTS / "recorded" / made["recorded"]).getroot()
    template = top.find("gpu")
    assert template is not None
    at = list(top).index(template)
    top.remove(template)
    _set(top, {"driver_version": version, "cuda_version": cuda, "attached_gpus": str(len(gpus["addresses"]))})
    for index, address in enumerate(gpus["addresses"]):
        gpu = copy.deepcopy(template)
        domain, bus, device = address.removesuffix(".0").split(":")
        identifier = f"{int(domain, 16):08X}:{bus.upper()}:{device.upper()}.0"
        gpu.set("id", identifier)
        own = {
            "uuid": uuid(index),
            "serial": f"16500000001{index:02d}",
            "minor_number": str(index),
            "gsp_firmware_version": version,
            "pci/pci_bus": bus.upper(),
            "pci/pci_device": device.upper(),
            "pci/pci_domain": domain,
            "pci/pci_bus_id": identifier,
            "pci/pci_device_id": f"{made['device'].upper()}10DE",
        }
        _set(gpu, {**own, **made["fields"], **gpus.get("fields", {}), **gpus.get("fields_of", {}).get(index, {})})
        if index in gpus.get("mig", {}):
            _divide(gpu, gpus["mig"][index])
        for process in gpus.get("processes", {}).get(index, []):
            _add_process(gpu, process)
        top.insert(at + index, gpu)
    return HEAD + ElementTree.tostring(top, encoding="unicode") + "\n"


def _set(element: ElementTree.Element, fields: dict[str, str]) -> None:
    """Set fields by their paths; a field that had parts loses them, and "//" at the end means all its parts."""
    for path, text in fields.items():
        found = element.find(path.removesuffix("//"))
        assert found is not None, f"the recorded answer has no {path}"
        if path.endswith("//"):
            for part in (part for part in found.iter() if not len(part)):
                part.text = text
            continue
        for part in list(found):
            found.remove(part)
        found.text = text


def _divide(gpu: ElementTree.Element, instances: list[dict[str, Any]]) -> None:
    """Turn MIG on, and make instances in the form of the driver's MIG documentation."""
    _set(gpu, {"mig_mode/current_mig": "Enabled", "mig_mode/pending_mig": "Enabled", "mig_devices": "None"})
    devices = gpu.find("mig_devices")
    assert devices is not None
    for index, instance in enumerate(instances):
        devices.text = None
        device = ElementTree.SubElement(devices, "mig_device")
        numbers = {"index": index, "gpu_instance_id": instance["gi"], "compute_instance_id": instance.get("ci", 0)}
        for name, value in numbers.items():
            ElementTree.SubElement(device, name).text = str(value)
        memory = ElementTree.SubElement(device, "fb_memory_usage")
        total, used = instance["total"], instance.get("used", 0)
        for name, value in {"total": total, "reserved": 0, "used": used, "free": total - used}.items():
            ElementTree.SubElement(memory, name).text = f"{value} MiB"


def listing(gpus: dict[str, Any]) -> str:
    """Return what `nvidia-smi -L` prints."""
    name, lines = product(gpus["product"])["fields"]["product_name"], []
    for index in _indexes(gpus):
        lines.append(f"GPU {index}: {name} (UUID: {uuid(index)})")
        for number, instance in enumerate(gpus.get("mig", {}).get(index, [])):
            identifier = uuid(index).replace("GPU-00000000", f"MIG-{number:08d}")
            lines.append(f"  MIG {instance['profile']:<12}Device{number:>3}: (UUID: {identifier})")
    return "\n".join(lines) + "\n"


def _add_process(gpu: ElementTree.Element, process: dict[str, Any]) -> None:
    """Add who holds memory of a GPU."""
    holders = gpu.find("processes")
    assert holders is not None
    info = ElementTree.SubElement(holders, "process_info")
    instance = process.get("gi", "N/A")
    fields = {"gpu_instance_id": instance, "compute_instance_id": "N/A", "pid": process["pid"], "type": "C"}
    fields |= {"process_name": process["name"], "used_memory": f"{process['used']} MiB"}
    for name, text in fields.items():
        ElementTree.SubElement(info, name).text = str(text)


def topology(gpus: dict[str, Any]) -> str:
    """Return what `nvidia-smi topo -m` prints, underlined heading included."""
    count = len(gpus["addresses"])
    heading = "\t".join([*(f"GPU{index}" for index in range(count)), "CPU Affinity", "NUMA Affinity", "GPU NUMA ID"])
    rows = []
    for index in range(count):
        cells = [" X " if other == index else _link(gpus, index, other) for other in range(count)]
        at = node(gpus, index)
        cpus = ("0-31", "32-63")[at]
        rows.append("\t".join([f"GPU{index}", *cells, cpus, str(at), "", "N/A"]))
    return "\t\x1b[4m" + heading + "\x1b[0m\n" + "\n".join(rows) + "\n" + LEGEND


def _link(gpus: dict[str, Any], first: int, second: int) -> str:
    """Return how two GPUs are connected: by NVLink, else below one memory node or across."""
    if "nvlink" in gpus:
        return str(gpus["nvlink"])
    return "NODE" if node(gpus, first) == node(gpus, second) else "SYS"


def information(gpus: dict[str, Any], index: int) -> str:
    """Return a GPU's file of /proc/driver/nvidia/gpus."""
    name = product(gpus["product"])["fields"]["product_name"]
    address = gpus["addresses"][index]
    return (
        f"Model: \t\t {name}\nIRQ:   \t\t 41\nGPU UUID: \t {uuid(index)}\nBus Type: \t PCIe\n"
        f"Bus Location: \t {address}\nDevice Minor: \t {index}\nGPU Excluded:\t No\n"
    )


def _indexes(gpus: dict[str, Any]) -> range:
    """Return the GPUs' numbers."""
    return range(len(gpus["addresses"]))
