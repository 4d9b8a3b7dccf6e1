"""The GPUs themselves: whether there are any, whether they can run vLLM, and whether they are well."""

from __future__ import annotations

from collections.abc import Iterator

from vllm_fleet.preflight.findings import Finding, error, repaired, warning
from vllm_fleet.preflight.wanted import Facts, Wanted, items, look, names, version

# Xid: (is it an error, what it means, what to do). What the driver itself asks for is gpu-needs-reset.
XIDS = {
    48: (False, "a double-bit memory error", "Reset the GPU, and replace it if it comes again"),
    63: (False, "a row of memory was remapped", "Reset the GPU once; more of them mean a dying card"),
    64: (True, "a row of memory could not be remapped", "Replace the card"),
    79: (True, "the GPU fell off the bus", "Power-cycle the host; if it comes again, check power and seating"),
    94: (False, "a contained memory error, which ended one program", "Reset the GPU when it is idle"),
    95: (True, "an uncontained memory error", "Reboot before the GPU is used again"),
    119: (True, "the GPU's own processor (GSP) does not answer", "Reset the GPU or reboot, and take the newest driver"),
    154: (False, "the driver asked for a recovery action", "Reset the GPU or reboot if it still asks for it"),
}
FELL_OFF, RECOVERY_ACTION = 79, 154
FOREIGN_DRIVERS = ("nouveau", "nova_core", "vfio-pci")


def findings(facts: Facts, wanted: Wanted) -> Iterator[Finding]:
    """Yield what is wrong with the GPUs of the host."""
    if look(facts, "pci_gpus") == []:
        yield error(
            "no-gpu",
            "There is no NVIDIA GPU on the PCI bus. Seat it or pass it through, or declare vllm_runtime_backend: cpu.",
        )
        return
    yield from _models(facts, wanted)
    yield from _owners(facts, wanted)
    yield from _lost(facts)
    yield from _xids(facts)
    for gpu in items(facts, "gpus"):
        yield from _health(gpu)
    unloading = [gpu.get("index") for gpu in items(facts, "gpus") if gpu.get("persistence") is False]
    if unloading:
        yield warning(
            "gpu-persistence-off",
            f"GPU {names(unloading)}: persistence is off, so each first use waits for the driver. Enable "
            "nvidia-persistenced.",
        )


def too_old(gpu: Facts, wanted: Wanted) -> bool:
    """Whether a GPU of the PCI bus is known to be below vLLM's floor."""
    capability = gpu.get("compute_capability")
    return capability is not None and version(capability) < version(wanted.min_compute_capability)


def lost(facts: Facts) -> list[str]:
    """Return the addresses of GPUs that stand on the PCI bus, but answer neither it nor the driver."""
    driver_answers = look(facts, "gpus") is not None
    shown = {gpu.get("pci_address") for gpu in items(facts, "gpus")}
    return [
        gpu["address"]
        for gpu in items(facts, "pci_gpus")
        if gpu.get("responds") is False
        or (driver_answers and gpu["address"] not in shown and gpu.get("driver") not in FOREIGN_DRIVERS)
    ]


def _models(facts: Facts, wanted: Wanted) -> Iterator[Finding]:
    for gpu in items(facts, "pci_gpus"):
        capability, where = gpu.get("compute_capability"), f"GPU {gpu['address']}"
        if capability is None:
            yield warning(
                "gpu-unknown",
                f"{where} (PCI id {gpu.get('id')}) is not in this project's table, and no driver tells what it can do. "
                f"See that its compute capability is at least {wanted.min_compute_capability}.",
            )
        elif too_old(gpu, wanted):
            yield error(
                "gpu-too-old",
                f"{where}, {gpu.get('name')}, has compute capability {capability}; vLLM and the open driver need "
                f"{wanted.min_compute_capability}. Use a GPU of the Turing generation or later.",
            )


def _owners(facts: Facts, wanted: Wanted) -> Iterator[Finding]:
    for driver in FOREIGN_DRIVERS:
        owned = [gpu["address"] for gpu in items(facts, "pci_gpus") if gpu.get("driver") == driver]
        if not owned:
            continue
        if driver == "vfio-pci":
            yield error(
                "gpu-driver-foreign",
                f"{driver} owns GPU {names(owned)} for a virtual machine. Take it from there, or run this inside it.",
            )
            continue
        if wanted.driver_managed and wanted.reboot_allowed:
            remedy = "This run installs the driver and reboots."
        elif wanted.driver_managed:
            remedy = "Set nvidia_driver_reboot_allowed: true, or reboot once the driver is installed and run again."
        else:
            remedy = f"Blacklist {driver}, rebuild every initramfs, and reboot."
        message = f"{driver} owns GPU {names(owned)}, which gives way only with a reboot. {remedy}"
        yield repaired(wanted.driver_managed, "gpu-driver-foreign", message)


def _lost(facts: Facts) -> Iterator[Finding]:
    gone = lost(facts)
    if gone:
        fallen = {xid.get("pci") for xid in items(facts, "nvidia", "xids") if xid.get("xid") == FELL_OFF}
        yield error(
            "gpu-lost",
            f"GPU {names(gone)} {'is' if len(gone) == 1 else 'are'} on the PCI bus, but not with the driver"
            f"{', and the kernel log says that it fell off the bus (Xid 79)' if fallen & set(gone) else ''}. "
            "Power-cycle the host; if it comes again, check power and seating.",
        )


def _xids(facts: Facts) -> Iterator[Finding]:
    gone = lost(facts)
    told = {gpu.get("pci_address") for gpu in items(facts, "gpus") if gpu.get("recovery_action")}
    seen = {(str(xid.get("pci")), int(xid["xid"])) for xid in items(facts, "nvidia", "xids")}
    for pci, xid in sorted(seen):
        # Said already, or answered by what the driver asks for now.
        if xid not in XIDS or (xid == FELL_OFF and pci in gone) or (xid == RECOVERY_ACTION and pci in told):
            continue
        grave, meaning, remedy = XIDS[xid]
        yield repaired(not grave, "gpu-xid", f"GPU {pci}: Xid {xid} since the last boot, {meaning}. {remedy}.")


def _health(gpu: Facts) -> Iterator[Finding]:
    where = f"GPU {gpu.get('index')} ({gpu.get('pci_address')})"
    action = gpu.get("recovery_action")
    if gpu.get("remap_failure"):
        yield error("gpu-remap-failed", f"{where}: a row of its memory could not be remapped. Replace the card.")
    if gpu.get("remap_pending"):
        yield error(
            "gpu-remap-pending",
            f"{where}: rows of its memory wait to be remapped. Reset it (nvidia-smi --gpu-reset) or reboot.",
        )
    if gpu.get("ecc_uncorrected"):
        yield warning(
            "gpu-ecc",
            f"{where}: {gpu['ecc_uncorrected']} uncorrected ECC errors. Reset it; replace the card if more come.",
        )
    if action and action.lower() != "none":
        yield error("gpu-needs-reset", f"{where}: the driver asks for '{action}'. Do that before it is used.")
    if gpu.get("mig") and not any(instance.get("uuid") for instance in gpu.get("mig_devices") or []):
        index = gpu.get("index")
        yield error(
            "gpu-mig",
            f"{where}: MIG is on, but there is no instance for a server. Make some (nvidia-smi mig -i {index} -lgip "
            f"lists what it can have), or run: nvidia-smi -i {index} -mig 0",
        )
