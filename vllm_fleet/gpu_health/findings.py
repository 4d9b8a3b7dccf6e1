"""What is wrong with a host's GPUs, as findings: code, severity, and what was found with what to do about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vllm_fleet.gpu_health.cuda_errors import KERNEL_LOG, explain

OUT_OF_MEMORY, NO_DEVICE, SYSTEM_NOT_READY = 2, 100, 802

# Every code of this role: what it means. docs/gpu-health.md shows them.
CODES: dict[str, str] = {
    "health-no-driver": "libcuda.so.1 is not there or cannot be loaded",
    "health-cuda": "CUDA does not start on the host",
    "health-fabric-not-ready": "CUDA waits for Fabric Manager (error 802), or a GPU's fabric state is not Completed",
    "health-probe-failed": "the proof itself could not run, or died",
    "health-gpu": "no context, memory or copy on a GPU",
    "health-gpu-memory-full": "a GPU was not proved, since its memory is in use (warning)",
    "health-gpu-hangs": "a GPU, or the driver, does not answer",
    "health-gpu-copy": "bytes copied to a GPU and back come back changed",
    "health-peer-copy": "bytes copied between two GPUs arrive changed, or the copy fails",
    "health-peer-hangs": "a copy between two GPUs does not end",
    "health-gpu-count": "CUDA offers another number of GPUs than expected",
    "health-gpu-order": "CUDA numbers the GPUs otherwise than nvidia-smi",
    "health-driver-version": "the loaded kernel module is not of the wanted version",
    "health-versions-differ": "kernel module, libraries and Fabric Manager are of different versions",
    "health-remap": "a GPU waits for the replacement of bad memory rows, or has none left",
    "health-recovery": "the driver asks for a reset, a reboot or a drain of a GPU",
    "health-persistence": "persistence is off (warning)",
    "health-service-user": "CUDA works for root and not for the model servers' user in their sandbox",
}


@dataclass(frozen=True)
class Wanted:
    """What a host should have: GPUs (0: as many as are on the PCI bus), driver (version, branch, or empty: any)."""

    gpus: int = 0
    driver: str = ""


def finding(code: str, message: str, severity: str = "error") -> dict[str, str]:
    """Return a finding; its code must be one of CODES."""
    assert code in CODES  # noqa: S101 - a programming error
    return {"code": code, "severity": severity, "message": message}


def find(proof: Mapping[str, Any], host: Mapping[str, Any], wanted: Wanted) -> list[dict[str, str]]:
    """Judge a host.

    Args:
        proof: what plugins/module_utils/cuda_probe.py reported.
        host: the fact ``gpu_host``; what it does not know (null) is not judged.
        wanted: what the host should have.
    """
    error = proof["error"]
    if error and error["kind"] == "library":
        return [_no_library(error["text"], host)]
    found = [_host_error(error)] if error and not any(gpu["error"] for gpu in proof["gpus"]) else []
    for gpu in proof["gpus"]:
        if gpu["error"]:
            found.append(_gpu_error(gpu, _smi(host, gpu["uuid"])))
    # Of a host with a divided GPU (MIG) CUDA shows a program one instance, and no other GPU.
    if not error and not any(gpu.get("mig") for gpu in host.get("gpus") or []):
        found += _count(proof["gpus"], host, wanted.gpus) + _order(proof["gpus"], host)
    if not any(each["code"] == "health-fabric-not-ready" for each in found):
        found += _fabric(host)
    return found + _peers(proof["peers"]) + _versions(host, wanted.driver) + _states(host)


def find_as_user(proof: Mapping[str, Any], user: str) -> list[dict[str, str]]:
    """Judge what failed for the servers' user where root succeeded: one finding, since the cause is one."""
    errors = [part["error"] for part in (proof, *proof["gpus"]) if part["error"]]
    errors = [error for error in errors if error["code"] != OUT_OF_MEMORY]
    if not errors:
        return []
    message = (
        f"CUDA works for root, but as {user} in the sandbox of the model servers {_words(errors[0])}. "
        f"Compare ls -l /dev/nvidia* and the groups in /proc/devices with DeviceAllow= of the units; "
        f"another access control (SELinux, AppArmor) shows in the kernel log."
    )
    return [finding("health-service-user", message)]


def gpu_name(gpu: Mapping[str, Any]) -> str:
    """Return how messages call a GPU."""
    return f"GPU {gpu['index']} ({gpu['pci_address']})"


def _words(error: Mapping[str, Any]) -> str:
    """Say an error as the end of a sentence."""
    step = error["step"] or "the start"
    if error["kind"] == "hang":
        return f"{step} hangs: {error['text']}"
    named = f" with {error['code']} {error['name']}" if error["code"] else ""
    return f"{step} fails{named} ({error['text']})"


def _with_cause(subject: str, error: Mapping[str, Any]) -> str:
    cause, remedy = explain(error["code"] or 0)
    return f"{subject}{_words(error)}{': ' + cause if cause else ''}. {remedy}."


def _no_library(text: str, host: Mapping[str, Any]) -> dict[str, str]:
    if "No such file" not in text:
        return finding(
            "health-no-driver", f"the driver's library cannot be loaded ({text}). Install the driver's packages again."
        )
    if host.get("pci_gpus") == []:
        return finding(
            "health-no-driver",
            "no NVIDIA driver on this host, and no NVIDIA GPU on its PCI bus. "
            "Take it out of the group gpu_hosts, or set vllm_runtime_backend to cpu for it.",
        )
    return finding(
        "health-no-driver",
        "no NVIDIA driver on this host (libcuda.so.1 is not there). Install it: ansible-playbook playbooks/drivers.yml",
    )


def _host_error(error: Mapping[str, Any]) -> dict[str, str]:
    if error["kind"] == "hang":
        return finding(
            "health-gpu-hangs",
            f"{_words(error)}. A GPU blocks the driver: {KERNEL_LOG}; then reboot or power-cycle the host.",
        )
    if error["kind"] == "crash":
        return finding("health-probe-failed", _with_cause("", error))
    code = "health-fabric-not-ready" if error["code"] == SYSTEM_NOT_READY else "health-cuda"
    return finding(code, _with_cause("", error))


def _smi(host: Mapping[str, Any], uuid: str) -> Mapping[str, Any]:
    """Return what nvidia-smi says of a GPU."""
    return next((gpu for gpu in host.get("gpus") or [] if gpu["uuid"] == uuid), {})


def _gpu_error(gpu: Mapping[str, Any], smi: Mapping[str, Any]) -> dict[str, str]:
    error, subject = gpu["error"], gpu_name(gpu) + ": "
    if error["kind"] == "hang":
        return finding(
            "health-gpu-hangs",
            f"{subject}{_words(error)}. Stop using it; only a reboot or a power cycle frees it.",
        )
    if error["kind"] == "data":
        return finding("health-gpu-copy", f"{subject}{error['text']}. Do not serve from it; have the card replaced.")
    if error["kind"] == "crash":
        return finding("health-probe-failed", _with_cause(subject, error))
    if error["code"] == OUT_OF_MEMORY and smi.get("processes"):
        holders = ", ".join(
            f"{process['name']} (pid {process['pid']}{', unit ' + process['unit'] if process.get('unit') else ''})"
            for process in smi["processes"]
        )
        message = (
            f"{subject}not proved, since {holders} left no memory. Stop it and prove again if the GPU is in doubt."
        )
        return finding("health-gpu-memory-full", message, "warning")
    return finding("health-gpu", _with_cause(subject, error))


def _peers(peers: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """One finding for all copies that hang and one for all that go wrong: their cause is one."""
    remedy = (
        "Boot with iommu=pt and switch ACS off in the firmware; or set NCCL_P2P_DISABLE=1 in the servers' env and "
        "disable-custom-all-reduce in their extra_args, which costs speed."
    )
    # A server that took the memory in between says nothing of the way between two GPUs.
    peers = [peer for peer in peers if (peer["error"] or {}).get("code") != OUT_OF_MEMORY]
    found = []
    for code, what, bad in (
        ("health-peer-hangs", "does not end", [peer for peer in peers if (peer["error"] or {}).get("kind") == "hang"]),
        ("health-peer-copy", "goes wrong", [p for p in peers if (p["error"] or {"kind": "hang"})["kind"] != "hang"]),
    ):
        if bad:
            pairs = ", ".join(f"{peer['from']} to {peer['to']}" for peer in bad)
            found.append(finding(code, f"a copy from GPU {pairs} {what} ({_words(bad[0]['error'])}). {remedy}"))
    return found


def _count(gpus: Sequence[Mapping[str, Any]], host: Mapping[str, Any], expected: int) -> list[dict[str, str]]:
    on_bus = host.get("pci_gpus")
    usable = None if on_bus is None else [gpu["address"] for gpu in on_bus if gpu.get("driver") != "vfio-pci"]
    expected = expected or (len(gpus) if usable is None else len(usable))
    if len(gpus) == expected:
        return []
    missing = sorted(set(usable or []) - {gpu["pci_address"] for gpu in gpus})
    where = f"; on the PCI bus but not in CUDA: {', '.join(missing)}" if missing else ""
    return [
        finding(
            "health-gpu-count",
            f"CUDA offers {len(gpus)} GPUs, {expected} are expected{where}. {explain(NO_DEVICE)[1]}; "
            "or set gpu_health_expected_gpus.",
        )
    ]


def _order(gpus: Sequence[Mapping[str, Any]], host: Mapping[str, Any]) -> list[dict[str, str]]:
    smi = {gpu["index"]: gpu for gpu in host.get("gpus") or []}
    for gpu in gpus:
        other = smi.get(gpu["index"])
        if other and other["uuid"] != gpu["uuid"]:
            message = (
                f"CUDA's {gpu_name(gpu)} is {gpu['uuid']}, nvidia-smi's is {other['uuid']}. "
                "Servers would sit on other GPUs than planned: look for a GPU that comes and goes, and reboot."
            )
            return [finding("health-gpu-order", message)]
    return []


def _versions(host: Mapping[str, Any], wanted: str) -> list[dict[str, str]]:
    nvidia = host.get("nvidia") or {}
    module = (nvidia.get("module") or {}).get("version")
    manager = (nvidia.get("fabric_manager") or {}).get("version") if host.get("nvswitches") else None
    found = []
    if module and wanted and module != wanted and not module.startswith(wanted + "."):
        message = f"driver {module} is loaded, {wanted} is wanted. Reboot if that is installed, else install it."
        found.append(finding("health-driver-version", message))
    parts = {"kernel module": module, "libraries": nvidia.get("userspace_version"), "Fabric Manager": manager}
    known = {name: version for name, version in parts.items() if version}
    if len(set(known.values())) > 1:
        listed = ", ".join(f"{name} {version}" for name, version in known.items())
        message = f"{listed}: all must be of one version. Install that version of each and hold them, then reboot."
        found.append(finding("health-versions-differ", message))
    return found


def _fabric(host: Mapping[str, Any]) -> list[dict[str, str]]:
    """One finding for all GPUs whose fabric is not up: null is a GPU without one."""
    bad = []
    for gpu in host.get("gpus") or []:
        state, status = gpu.get("fabric_state"), gpu.get("fabric_status")
        if state and (state != "Completed" or status not in ("Success", None)):
            bad.append(f"{gpu_name(gpu)} {state}{', ' + status if status else ''}")
    if not bad:
        return []
    log = ((host.get("nvidia") or {}).get("fabric_manager") or {}).get("log")
    said = f"; Fabric Manager said last: {log}" if log else ""
    message = f"the state of the fabric is not Completed: {'; '.join(bad)}{said}. {explain(SYSTEM_NOT_READY)[1]}."
    return [finding("health-fabric-not-ready", message)]


def _states(host: Mapping[str, Any]) -> list[dict[str, str]]:
    """Judge what nvidia-smi says of the GPUs."""
    found = []
    for gpu in host.get("gpus") or []:
        name = gpu_name(gpu)
        if gpu.get("remap_failure"):
            message = f"{name}: no spare memory rows are left. Have the card replaced."
            found.append(finding("health-remap", message))
        elif gpu.get("remap_pending"):
            message = f"{name}: bad memory rows wait to be replaced. Stop what uses it and run nvidia-smi --gpu-reset."
            found.append(finding("health-remap", message))
        if gpu.get("recovery_action") not in (None, "None"):
            action = gpu["recovery_action"]
            message = f"{name}: the driver asks for '{action}'. Stop what uses it and do that; why: {KERNEL_LOG}"
            found.append(finding("health-recovery", message))
    off = [gpu_name(gpu) for gpu in host.get("gpus") or [] if gpu.get("persistence") is False]
    if off:
        message = f"persistence is off on {', '.join(off)}. Run: systemctl enable --now nvidia-persistenced"
        found.append(finding("health-persistence", message, "warning"))
    return found
