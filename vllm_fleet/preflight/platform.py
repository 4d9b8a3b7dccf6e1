"""The system of a host: release, Python, systemd, clock, virtual machine."""

from __future__ import annotations

from collections.abc import Iterator

from vllm_fleet.preflight.findings import Finding, error, repaired, warning
from vllm_fleet.preflight.wanted import Facts, Wanted, driver_present, items, look, version

# Releases NVIDIA has packages for and the roles have data for; EL counts by its major version.
SUPPORTED = {
    "debian": ("12", "13"),
    "ubuntu": ("22.04", "24.04", "26.04"),
    "el": ("8", "9", "10"),
}
MIN_PYTHON = (3, 8)
MIN_SYSTEMD = 247  # LoadCredential=, by which the API key reaches a server
CONTAINERS = ("systemd-nspawn", "lxc", "lxc-libvirt", "docker", "podman", "openvz", "container-other")


def findings(facts: Facts, wanted: Wanted) -> Iterator[Finding]:
    """Yield what the system of the host stands in the way with."""
    yield from _release(facts, wanted)
    python, systemd = look(facts, "python"), look(facts, "systemd")
    if python and version(python) < MIN_PYTHON:
        yield error(
            "python-too-old",
            f"Python {python} is older than 3.8, which Ansible needs on a host. Install a newer one, and name it in "
            "ansible_python_interpreter.",
        )
    if systemd is not None and int(systemd) < MIN_SYSTEMD:
        yield error(
            "systemd-too-old",
            f"systemd {systemd} cannot hand a secret to a unit, which takes {MIN_SYSTEMD}. Use a newer release of the "
            "system.",
        )
    # A container shows the clock of its machine and cannot set it.
    if look(facts, "time_synchronized") is False and look(facts, "virtualization") not in CONTAINERS:
        yield warning(
            "clock-not-synchronized",
            "Nothing keeps the clock right, and certificates will be refused one day. Run: timedatectl set-ntp true, "
            "or install chrony.",
        )


def unread(facts: Facts, wanted: Wanted) -> Iterator[Finding]:
    """Yield what could not be read of the host."""
    hangs = look(facts, "nvidia", "smi", "state") == "hangs"
    for probe in items(facts, "unread"):
        if hangs and probe.get("probe") == "smi":
            continue  # the driver's own finding
        if wanted.backend != "cuda" and probe.get("probe") in ("smi", "xids"):
            continue  # only about GPUs; a container shows no kernel log
        yield warning(
            "fact-unread",
            f"'{probe.get('probe')}' could not be read of the host: {str(probe.get('reason')).rstrip('.')}. Look at it "
            "there; what it would have told is unknown here.",
        )


def _release(facts: Facts, wanted: Wanted) -> Iterator[Finding]:
    identity, release = look(facts, "os", "id"), look(facts, "os", "version_id")
    family = "el" if "rhel" in {identity, *(look(facts, "os", "id_like") or [])} else identity
    # Of other families the role vllm_runtime says that it knows nothing.
    if not release or family not in SUPPORTED:
        return
    known = release.split(".")[0] if family in ("el", "debian") else release
    if known in SUPPORTED[family]:
        return
    needs_driver = wanted.backend == "cuda" and wanted.driver_managed and not driver_present(facts)
    yield repaired(
        not needs_driver,
        "platform-version",
        f"{look(facts, 'os', 'name') or identity} {release} is not among the releases this project is made for "
        f"({', '.join(SUPPORTED[family])}). "
        + (
            "Use one of them, or install the driver yourself." if needs_driver else "Use one of them if anything fails."
        ),
    )


def virtual_machine(facts: Facts) -> Iterator[Finding]:
    """Yield a warning where several GPUs are passed through to a virtual machine."""
    kind = look(facts, "virtualization")
    if kind in (None, "none", *CONTAINERS) or len(items(facts, "pci_gpus")) < 2:
        return
    yield warning(
        "virtual-machine",
        f"This is a virtual machine ({kind}) with {len(items(facts, 'pci_gpus'))} GPUs, where access from GPU to GPU "
        "may be missing or hang. If a server with tensor_parallel_size above 1 hangs at its start, declare env: "
        "{NCCL_P2P_DISABLE: 1} and extra_args: {disable-custom-all-reduce: true}.",
    )
