"""Make files and commands of what the constructed hosts have in common, each only where its file asks for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.hosts import smi

SHARED = Path(__file__).resolve().parent / "shared"
PCI = "/sys/bus/pci/devices"


@dataclass
class Made:
    """What has been made so far."""

    files: dict[str, str] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    commands: dict[str, dict[str, Any]] = field(default_factory=dict)


def make(described: dict[str, Any]) -> Made:
    """Make what a host's file describes by the names of shared parts."""
    made = Made()
    if "system" not in described:
        return made
    system = yaml.safe_load((SHARED / "systems.yml").read_text())
    _system(made, system["every"])
    _system(made, system[described["system"]])
    gpus = described.get("gpus")
    if gpus:
        _pci_gpus(made, gpus)
    for address in described.get("nvswitches", []):
        _device(made, address, "22a3" if gpus["product"].startswith("h") else "1af1", "0x068000", "nvidia-nvswitch", 0)
    if "driver" in described:
        _driver(made, described["driver"], system[described["system"]], gpus)
    if "services" in described:
        _services(made, described["services"])
    return made


def _system(made: Made, system: dict[str, Any]) -> None:
    """Take over a shared part."""
    made.files.update(system.get("files", {}))
    made.links.update(system.get("links", {}))
    made.commands.update(system.get("commands", {}))


def _device(made: Made, address: str, device: str, kind: str, driver: str | None, node: int) -> None:
    """Put a device of NVIDIA's on the PCI bus."""
    top = f"{PCI}/{address}"
    low, high = (chr(int(device[at : at + 2], 16)) for at in (2, 0))
    made.files |= {
        f"{top}/vendor": "0x10de\n",
        f"{top}/device": f"0x{device}\n",
        f"{top}/class": f"{kind}\n",
        f"{top}/numa_node": f"{node}\n",
        f"{top}/config": f"\xde\x10{low}{high}",
    }
    if driver:
        made.links[f"{top}/driver"] = f"../../../bus/pci/drivers/{driver}"


def _pci_gpus(made: Made, gpus: dict[str, Any]) -> None:
    """Put the GPUs on the PCI bus."""
    product = smi.product(gpus["product"])
    for index, address in enumerate(gpus["addresses"]):
        node = smi.node(gpus, index)
        _device(made, address, product["device"], product["class"], gpus.get("driver"), node)


def _driver(made: Made, driver: dict[str, Any], system: dict[str, Any], gpus: dict[str, Any] | None) -> None:
    """Install a driver, and load its module unless `loaded: false`."""
    version, libraries = driver["version"], system["libraries"]
    userspace = driver.get("userspace", version)
    built = f"/lib/modules/{system['release']}/{system['module']}"
    is_open = driver.get("open", True)
    made.files |= {
        built: "",
        f"/lib/modules/{system['release']}/modules.dep": f"{system['module']}:\n",
        **{f"/lib/firmware/nvidia/{userspace}/{name}": "" for name in ("gsp_ga10x.bin", "gsp_tu10x.bin")},
    }
    for library in ("libnvidia-ml.so", "libcuda.so"):
        made.files[f"{libraries}/{library}.{userspace}"] = ""
        made.links[f"{libraries}/{library}.1"] = f"{library}.{userspace}"
    licence = "Dual MIT/GPL" if is_open else "NVIDIA"
    described = {"filename": built, "version": driver.get("on_disk", version), "license": licence}
    text = "".join(f"{name + ':':15} {value}\n" for name, value in described.items())
    made.commands["modinfo nvidia"] = {"rc": 0, "stdout": text}
    if not driver.get("loaded", True):
        return
    kind = "Open Kernel Module for x86_64" if is_open else "x86_64 Kernel Module"
    parameters = {"ModifyDeviceFiles": "1", "NvLinkDisable": "0", "EnableGpuFirmware": "18", "RegistryDwords": '""'}
    made.files |= {
        "/proc/modules": "nvidia_uvm 1830912 0 - Live 0x0 (O)\nnvidia 14299136 2 nvidia_uvm, Live 0x0 (O)\n",
        "/proc/driver/nvidia/version": f"NVRM version: NVIDIA UNIX {kind}  {version}  Release Build\n",
        "/proc/driver/nvidia/params": "".join(f"{name}: {value}\n" for name, value in parameters.items()),
        "/sys/module/nvidia/version": f"{version}\n",
        "/sys/module/nvidia/initstate": "live\n",
        "/sys/module/nvidia_uvm/initstate": "live\n",
        **{f"/dev/{name}": "" for name in ("nvidiactl", "nvidia-uvm", "nvidia-uvm-tools")},
    }
    if not gpus:
        return
    for index, address in enumerate(gpus["addresses"]):
        made.files[f"/dev/nvidia{index}"] = ""
        made.files[f"/proc/driver/nvidia/gpus/{address}/information"] = smi.information(gpus, index)
    made.commands["nvidia-smi -q -x"] = {"rc": 0, "stdout": smi.log(gpus, version, driver.get("cuda", "13.0"))}
    if "mig" in gpus:
        made.commands["nvidia-smi -L"] = {"rc": 0, "stdout": smi.listing(gpus)}
    made.commands["nvidia-smi topo -m"] = {"rc": 0, "stdout": smi.topology(gpus)}


def _services(made: Made, services: dict[str, str]) -> None:
    """Say how Fabric Manager and persistenced are: "active", "failed", "inactive" or "absent"."""
    names = {"fabric_manager": "nvidia-fabricmanager.service", "persistenced": "nvidia-persistenced.service"}
    blocks = []
    for key, unit in names.items():
        state = services.get(key, "absent")
        loaded, active = ("not-found", "inactive") if state == "absent" else ("loaded", state)
        pid = {"fabric_manager": 2100, "persistenced": 1900}[key] if active == "active" else 0
        blocks.append(f"MainPID={pid}\nId={unit}\nLoadState={loaded}\nActiveState={active}\n")
    asked = "systemctl show --property=Id,LoadState,ActiveState,MainPID " + " ".join(names.values())
    made.commands[asked] = {"rc": 0, "stdout": "\n".join(blocks)}
    if services.get("persistenced") == "active":
        made.files["/proc/1900/status"] = "Name:\tnvidia-persiste\nUid:\t112\t112\t112\t112\n"
        made.files["/proc/1900/cgroup"] = "0::/system.slice/nvidia-persistenced.service\n"
