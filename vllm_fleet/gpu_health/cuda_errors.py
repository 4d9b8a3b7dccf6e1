"""Errors of the CUDA driver API as they are met on servers: what usually causes each, and what to do."""

from __future__ import annotations

KERNEL_LOG = "journalctl -k | grep -e NVRM -e Xid"

# By CUDA's number: (usual cause, what to do).
CUDA_ERRORS: dict[int, tuple[str, str]] = {
    2: ("the GPU's memory is in use", "See who holds it: nvidia-smi, and fuser -v /dev/nvidia*"),
    3: (
        "nvidia_uvm does not work with this kernel or card, as on Blackwell workstation cards with HMM",
        "Write 'options nvidia_uvm uvm_disable_hmm=1' to /etc/modprobe.d/nvidia-uvm.conf and reboot",
    ),
    34: ("a toolkit's stub stands in for the driver's libcuda", "Take its stubs directory out of /etc/ld.so.conf.d"),
    36: ("the driver is older than its caller", "Install a newer driver branch"),
    46: (
        "another process has the GPU for itself (compute mode), or the GPU needs a reset",
        "Set nvidia-smi --compute-mode=0; if it stays, nvidia-smi --gpu-reset or reboot",
    ),
    100: (
        "the kernel module is not loaded, does not support the GPU, or has lost it",
        f"Look for the reason: {KERNEL_LOG}",
    ),
    101: ("the GPU's device node is missing or shut", "Make it: nvidia-modprobe -u -c0; then ls -l /dev/nvidia*"),
    214: (
        "the GPU's memory has an error that ECC cannot correct",
        "Reset the GPU or reboot; if it comes again, have the card replaced",
    ),
    220: (
        "an NVLink has an error that cannot be corrected",
        "Reset all GPUs or reboot; if it comes again, have it repaired",
    ),
    304: (
        "a device node cannot be opened",
        "See ls -l /dev/nvidia*, and DeviceAllow= where it is a service that fails",
    ),
    700: ("the GPU or its driver is faulty", f"Look for Xids: {KERNEL_LOG}; reset the GPU or reboot"),
    719: ("the GPU or its driver is faulty", f"Look for Xids: {KERNEL_LOG}; reset the GPU or reboot"),
    802: (
        "Fabric Manager has not brought the NVSwitches up: not installed, another version than the driver, or failed",
        "See systemctl status nvidia-fabricmanager, and /var/log/fabricmanager.log",
    ),
    803: (
        "libcuda and the loaded kernel module are of different versions",
        "Reboot, so that the installed module is loaded",
    ),
    804: (
        "a libcuda of the package cuda-compat, which these GPUs do not support, is found before the driver's",
        "Remove the packages cuda-compat-*",
    ),
    805: ("CUDA_MPS_PIPE_DIRECTORY names an MPS daemon that does not answer", "Stop MPS, or start its daemon"),
    999: (
        "nvidia-uvm is not loaded or its device node is missing; otherwise a GPU is sick",
        f"Run modprobe nvidia-uvm and nvidia-modprobe -u -c0; if it stays: {KERNEL_LOG}",
    ),
}
_OTHER = ("", f"Look for the reason: {KERNEL_LOG}")


def explain(code: int) -> tuple[str, str]:
    """Return the usual cause of an error (empty if none is known) and what to do."""
    return CUDA_ERRORS.get(code, _OTHER)
