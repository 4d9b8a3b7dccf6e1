"""Every code a finding can carry: stable names, which scripts and people may rely on. docs/preflight.md lists them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Code:
    """A code: how grave it is (`error`, `warning` or both), what it means, what to do, and which part raises it."""

    code: str
    severity: str
    meaning: str
    remedy: str
    source: str = "preflight"


E, W, EW = "error", "warning", "error or warning"

_ALL = (
    # The host as such
    Code("host-unreachable", E, "SSH does not get to the host.", "What SSH said is in the message.", "playbook"),
    Code("host-unreadable", E, "The host's facts cannot be read.", "Python 3.8 or newer on the host.", "playbook"),
    Code("look-failed", E, "A look at the host failed in an unforeseen way.", "As the message says.", "playbook"),
    Code("settings", E, "A role refuses the value of one of its variables.", "Correct the inventory.", "playbook"),
    Code("fact-unread", W, "A part of the host could not be read (a hanging mount, for one).", "Look at it there."),
    Code("declaration", E, "A mistake in `model_servers`, or a misspelt variable.", "Correct it.", "serving_plan"),
    Code("plan-placement", EW, "Servers find no place on the host's GPUs, or one that is slow.", "As the message says.",
         "serving_plan"),
    Code("plan-memory", EW, "A server's memory does not suffice for what is declared; a warning where it may.",
         "As the message says.", "serving_plan"),
    Code("plan-model", EW, "A server does not suit its model.", "As the message says.", "serving_plan"),
    Code("plan-gpu", EW, "A server does not suit the GPUs it is to run on.", "As the message says.", "serving_plan"),
    Code("model-unknown", W, "Nothing is known of a model, so its memory cannot be planned.",
         "Fetch the model, or `gpu_memory_utilization`.", "serving_plan"),
    Code("not-root", E, "The login on the host is not root's.", "`ansible_become: true`.", "vllm_runtime"),
    Code("platform-unsupported", E, "A distribution this project knows nothing of.", "Another one.", "vllm_runtime"),
    Code("platform-version", EW, "A release of the system for which NVIDIA has no packages, or which is untried; an "
         "error where a driver is still to be installed.", "A listed release."),
    Code("python-too-old", E, "The host's Python is older than 3.8, which Ansible needs.", "A newer Python."),
    Code("python-unsupported", E, "vLLM's lock is not for the interpreter to use.", "`vllm_runtime_python`.",
         "vllm_runtime"),
    Code("systemd-too-old", E, "systemd cannot do what the units need.", "A newer release of the system."),
    Code("glibc-too-old", E, "glibc is older than vLLM's packages need.", "A newer release of the system.",
         "vllm_runtime"),
    Code("processor", E, "Another architecture, or a processor without a feature vLLM needs.", "Another host.",
         "vllm_runtime"),
    Code("service-user", E, "The user for the servers is a person's account.", "`vllm_runtime_user`.", "vllm_runtime"),
    Code("clock-differs", E, "The host's clock is far from the controller's.", "Set the time first.", "vllm_runtime"),
    Code("clock-not-synchronized", W, "Nothing keeps the host's clock right.", "`timedatectl set-ntp true`."),
    Code("compiler-missing", W, "No C compiler, and the package lists have none to install.",
         "A repository that has one.", "vllm_runtime"),
    Code("index-unreachable", W, "The Python package index does not answer the host.",
         "`vllm_runtime_environment`, or pip's configuration on the host.", "vllm_runtime"),
    Code("disk-too-small", E, "A file system cannot take what the run puts on it.", "Make room, or move a directory.",
         "preflight, vllm_runtime, model_store"),
    Code("memory-too-small", W, "Main memory is short for the servers' processes.", "More memory, or fewer servers."),
    Code("shm-too-small", W, "Shared memory is short for tensor parallelism.", "A larger /dev/shm."),
    # Models and servers
    Code("model-incomplete", E, "A model's directory on the host is missing or lacks files.", "Copy the whole model.",
         "model_store"),
    Code("model-unreadable", E, "The servers' user cannot read a model.", "`chmod -R a+rX`.", "model_store"),
    Code("model-source", E, "The directory to copy from holds no model.", "Correct `copy_from`.", "model_store"),
    Code("model-refused", E, "The hub does not give the model: gated, unknown, no rights.", "As the message says.",
         "model_store"),
    Code("hub-unreachable", E, "The model hub does not answer the host.",
         "`model_store_environment`, `model_store_endpoint` or `copy_from`.", "model_store"),
    Code("port-taken", E, "Somebody else listens on a server's port.", "Stop it, or another port.", "model_server"),
    # GPUs
    Code("no-gpu", E, "No NVIDIA GPU on the PCI bus.", "Seat or pass through the GPU, or `vllm_runtime_backend: cpu`."),
    Code("gpu-too-old", E, "Compute capability below vLLM's floor.", "A GPU of Turing or later."),
    Code("gpu-unknown", W, "A GPU that is not in the project's table, and no driver to ask.", "Look it up."),
    Code("gpu-driver-foreign", EW, "nouveau, nova_core or vfio-pci owns the GPU; a warning where this run replaces it.",
         "Free the GPU."),
    Code("gpu-lost", E, "A GPU on the PCI bus that the driver does not show (often Xid 79).", "Power-cycle."),
    Code("gpu-xid", EW, "The kernel log of this boot holds an Xid of note.", "By Xid; see the message."),
    Code("gpu-remap-pending", E, "Rows of GPU memory wait to be remapped.", "Reset the GPU or reboot."),
    Code("gpu-remap-failed", E, "A row of GPU memory could not be remapped.", "Replace the card."),
    Code("gpu-ecc", W, "Uncorrected ECC errors were counted.", "Reset the GPU; replace it if they come back."),
    Code("gpu-needs-reset", E, "The driver asks for a reset or more before the GPU is used.", "As it asks."),
    Code("gpu-mig", E, "MIG is on, but the GPU has no instance for a server.", "Make some, or `nvidia-smi -mig 0`."),
    Code("gpu-persistence-off", W, "The driver unloads between uses, and starts are slow.", "nvidia-persistenced."),
    # Driver and kernel
    Code("driver-missing", E, "No NVIDIA driver, and the run is not to install one.", "`nvidia_driver_manage: true`."),
    Code("driver-too-old", EW, "The driver's branch is below vLLM's CUDA; a warning where this run installs another.",
         "A newer branch."),
    Code("driver-mismatch", EW, "Kernel module and libraries are of different versions; a warning where this run may "
         "reboot.", "Reboot; do not reinstall."),
    Code("driver-not-open", W, "The proprietary kernel module, which later branches lack.", "The open modules."),
    Code("driver-hangs", E, "nvidia-smi does not come back.", "Take the host out and reboot it."),
    Code("driver-not-answering", E, "The module is loaded, but nvidia-smi fails.", "As the message says."),
    Code("driver-firmware", EW, "GSP firmware of the module's version is missing.", "Its firmware package."),
    Code("kernel-without-module", EW, "An installed kernel has no NVIDIA module: booted into it, the host has no GPU; "
         "a warning where this run builds it.", "Headers, and dkms."),
    Code("kernel-headers", W, "Headers of an installed kernel are missing; the run installs them.", "Nothing."),
    Code("secure-boot-key-not-enrolled", EW, "Secure Boot is on and the key for built modules is not enrolled; a "
         "warning where that cannot be read.", "Enrol it at the console, signed modules, or Secure Boot off."),
    Code("compiler-older-than-kernel", W, "The compiler is older than the one that built the kernel.", "That one."),
    # Fabric and links
    Code("fabric-manager-missing", EW, "NVSwitches, but no Fabric Manager; a warning where this run installs it.",
         "The Fabric Manager of the driver's version."),
    Code("fabric-manager-mismatch", EW, "Fabric Manager and driver differ; a warning where this run repairs it.",
         "Exactly the driver's version."),
    Code("fabric-manager-down", E, "Fabric Manager is installed and does not run.", "Its log."),
    Code("fabric-not-ready", E, "A GPU is not a member of the NVLink fabric: CUDA answers error 802.",
         "Fabric Manager's log."),
    Code("iommu-translation", W, "IOMMU translation with several GPUs: tensor parallelism may hang.", "`iommu=pt`."),
    Code("virtual-machine", W, "Several GPUs in a virtual machine: no or broken peer-to-peer access.", "A test."),
    Code("slow-gpu-link", W, "GPUs of one server are joined across processor sockets.", "Other `gpus`."),
    Code("numa-without-memory", W, "The NUMA node next to a GPU has no memory.", "Move memory modules."),
    # Who holds GPU memory
    Code("gpu-leftover", E, "A vLLM engine that belongs to no unit holds GPU memory.", "End it by its pid."),
    Code("gpu-held", W, "Somebody else's process holds GPU memory.", "Agree with its owner."),
    Code("gpu-memory-short", E, "Less GPU memory is free than the servers are to take.", "Free it, or lower shares."),
    # The way in: the gateway, and the ports of model servers
    Code("gateway-port", E, "Somebody else listens on the gateway's port.", "Stop it, or `gateway_port`.", "gateway"),
    Code("gateway-selinux", E, "SELinux keeps haproxy from the ports it needs.",
         "`setsebool -P haproxy_connect_any on`.", "gateway"),
    Code("firewall-closed", W, "ufw or firewalld keeps clients from the gateway, or gateways from model servers.",
         "The command in the message.", "gateway, model_firewall"),
    Code("firewall-admission", E, "The host does not know who is to reach its model servers.",
         "`ansible_host` of the gateway, or `model_firewall_admitted`.", "model_firewall"),
    Code("firewall-rules", E, "nftables cannot close the model servers' ports.", "As the message says.",
         "model_firewall"),
    Code("servers-open", W, "Model servers listen on more than loopback, and no gateway guards them.",
         "The group `gateways`, or `model_server_bind_address`.", "model_firewall"),
    # What the role nvidia_driver finds in repositories and wishes
    Code("driver-platform-unsupported", E, "NVIDIA has no packages for the system.", "Another release.",
         "nvidia_driver"),
    Code("driver-not-installed-here", E, "A driver is to be removed that this role did not install.",
         "The package manager.", "nvidia_driver"),
    Code("driver-branch-unknown", E, "`nvidia_driver_branch` is no branch.", "A number, such as 580.", "nvidia_driver"),
    Code("driver-branch-too-old", E, "A branch below vLLM's CUDA is asked for.", "`nvidia_driver_branch`.",
         "nvidia_driver"),
    Code("driver-version-not-of-branch", E, "Version and branch asked for do not go together.", "Set both alike.",
         "nvidia_driver"),
    Code("driver-version-unavailable", E, "The repository lacks the version for some package.",
         "A version every package has, or another mirror.", "nvidia_driver"),
    Code("driver-repository-unreachable", E, "The driver's repository does not answer the host.",
         "`nvidia_driver_repository_url`, `nvidia_driver_environment`.", "nvidia_driver"),
    Code("driver-origins-mixed", W, "The driver's packages come from several repositories.", "Remove the others.",
         "nvidia_driver"),
    Code("driver-not-from-packages", EW, "A module no package brought is loaded; a warning if it is the wanted one.",
         "nvidia-uninstall, or `nvidia_driver_manage: false`.", "nvidia_driver"),
    Code("kernel-headers-unavailable", EW, "No repository has the headers of an installed kernel; a warning where the "
         "lists may be old.", "A newer kernel.", "nvidia_driver"),
    # What the proof on the GPUs finds (after the driver's installation)
    Code("health-no-driver", E, "The driver's library is not there or cannot be loaded.", "Install it.", "gpu_health"),
    Code("health-probe-failed", E, "The proof itself went wrong.", "As the message says.", "gpu_health"),
    Code("health-cuda", E, "CUDA does not start on the host.", "By the error; see the message.", "gpu_health"),
    Code("health-gpu", E, "CUDA fails on a GPU.", "By the error; see the message.", "gpu_health"),
    Code("health-gpu-hangs", E, "CUDA hangs on a GPU.", "Reboot or power-cycle.", "gpu_health"),
    Code("health-gpu-copy", E, "A GPU gives back other data than it got.", "Replace the card.", "gpu_health"),
    Code("health-gpu-memory-full", W, "A GPU could not be proved for want of memory.", "Stop who holds it.",
         "gpu_health"),
    Code("health-gpu-count", E, "CUDA offers another number of GPUs than expected.", "Reboot, or "
         "`gpu_health_expected_gpus`.", "gpu_health"),
    Code("health-gpu-order", E, "CUDA and nvidia-smi count GPUs differently.", "Reboot.", "gpu_health"),
    Code("health-peer-hangs", E, "A copy from GPU to GPU does not end.", "`iommu=pt`, ACS off.", "gpu_health"),
    Code("health-peer-copy", E, "A copy from GPU to GPU goes wrong.", "`iommu=pt`, ACS off.", "gpu_health"),
    Code("health-fabric-not-ready", E, "The NVLink fabric is not Completed.", "Fabric Manager's log.", "gpu_health"),
    Code("health-driver-version", E, "Another driver is loaded than is wanted.", "Reboot.", "gpu_health"),
    Code("health-versions-differ", E, "Module, libraries and Fabric Manager differ.", "One version of all.",
         "gpu_health"),
    Code("health-remap", E, "Rows of GPU memory wait for, or failed, a remap.", "Reset, or replace.", "gpu_health"),
    Code("health-recovery", E, "The driver asks for a reset or more.", "As it asks.", "gpu_health"),
    Code("health-persistence", W, "Persistence is off.", "nvidia-persistenced.", "gpu_health"),
    Code("health-service-user", E, "CUDA works for root, not for the servers' user.", "Device access.", "gpu_health"),
)  # fmt: skip

CODES = {code.code: code for code in _ALL}


def table() -> str:
    """Return the table of docs/preflight.md."""
    rows = ["| code | severity | meaning | remedy | found by |", "| --- | --- | --- | --- | --- |"]
    rows += [f"| `{one.code}` | {one.severity} | {one.meaning} | {one.remedy} | {one.source} |" for one in _ALL]
    return "\n".join(rows)
