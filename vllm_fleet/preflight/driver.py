"""The NVIDIA driver: there, new enough, of one version throughout, and answering."""

from __future__ import annotations

from collections.abc import Iterator

from vllm_fleet.preflight.findings import Finding, error, repaired, warning
from vllm_fleet.preflight.gpu import lost, too_old
from vllm_fleet.preflight.wanted import Facts, Wanted, driver_present, items, look, version


def findings(facts: Facts, wanted: Wanted) -> Iterator[Finding]:
    """Yield what is wrong with the driver."""
    if not driver_present(facts):
        # Only where it was looked for, and where there is something to drive.
        if (
            not wanted.driver_managed
            and look(facts, "nvidia", "smi", "state") == "missing"
            and items(facts, "pci_gpus")
        ):
            yield error(
                "driver-missing",
                "There is no NVIDIA driver, and nvidia_driver_manage is false. Install one of branch "
                f"{wanted.min_driver} or later, or set nvidia_driver_manage: true.",
            )
        return
    yield from _versions(facts, wanted)
    yield from _firmware(facts, wanted)
    state, said = look(facts, "nvidia", "smi", "state"), look(facts, "nvidia", "smi", "message")
    # A GPU too old for the open modules has a finding of its own.
    old = any(too_old(gpu, wanted) for gpu in items(facts, "pci_gpus"))
    if look(facts, "nvidia", "module", "open") is False and not old:
        yield warning(
            "driver-not-open",
            "The kernel module is the proprietary one, which NVIDIA no longer makes from branch 615 on. "
            "Install the open modules (nvidia-open).",
        )
    if state == "hangs":
        yield error(
            "driver-hangs",
            "nvidia-smi does not come back: a dying GPU blocks the driver. Take the host out (--limit '!...'), look "
            "for its Xid in the kernel log, and reboot or power-cycle it.",
        )
    elif state == "failed" and look(facts, "nvidia", "module", "loaded") and not (_mismatch(facts) or lost(facts)):
        yield error(
            "driver-not-answering",
            f"The driver is loaded, but nvidia-smi fails: {(said or 'it says nothing').strip().rstrip('.')}. Look into "
            "the kernel log (journalctl -k -g NVRM), and reboot.",
        )


def _mismatch(facts: Facts) -> bool:
    module, library = look(facts, "nvidia", "module", "version"), look(facts, "nvidia", "userspace_version")
    return bool(
        look(facts, "nvidia", "module", "loaded") and module and library and version(module) != version(library)
    )


def _versions(facts: Facts, wanted: Wanted) -> Iterator[Finding]:
    module, library = look(facts, "nvidia", "module", "version"), look(facts, "nvidia", "userspace_version")
    installed = library or module
    if installed and version(installed)[:1] < version(wanted.min_driver)[:1]:
        yield repaired(
            wanted.driver_managed,
            "driver-too-old",
            f"Driver {installed} is older than branch {wanted.min_driver}, which vLLM's CUDA needs. "
            + (
                "This run installs a newer one; servers that use the GPUs will be interrupted."
                if wanted.driver_managed
                else f"Install branch {wanted.min_driver} or later, or set nvidia_driver_manage: true."
            ),
        )
    if _mismatch(facts):
        yield repaired(
            wanted.driver_managed and wanted.reboot_allowed,
            "driver-mismatch",
            f"The loaded kernel module is {module}, the libraries are {library}: no new program can use a GPU. Reboot "
            "the host; do not reinstall.",
        )


def _firmware(facts: Facts, wanted: Wanted) -> Iterator[Finding]:
    module, there = look(facts, "nvidia", "module", "version"), look(facts, "nvidia", "firmware_versions")
    # A driver that answers has its firmware, wherever it is (the host of a container has it, for one).
    answers = look(facts, "nvidia", "smi", "state") == "ok"
    if module and there is not None and module not in there and not answers and not _mismatch(facts):
        found = f"only {', '.join(there)}" if there else "none"
        yield repaired(
            wanted.driver_managed,
            "driver-firmware",
            f"The module is {module}, but of its GSP firmware there is {found} below /lib/firmware/nvidia. Install the "
            "firmware package of the same version.",
        )
