"""What keeps a driver from being installed, in sentences with their remedies."""

from __future__ import annotations

from ansible.module_utils.nvidia_driver.packages import branch_of, number


def finding(code, message, severity="error"):
    """Return one finding."""
    return {"code": code, "severity": severity, "message": message}


def of_platform(host, presigned, supported):
    """The finding about a system there are no packages for."""
    name = (host.get("os") or {}).get("name") or "this system"
    what = " with pre-signed modules" if presigned else ""
    return finding(
        "driver-platform-unsupported",
        f"{name} on {host['architecture']}{what} is not a platform this role has a driver for; it has for: "
        f"{', '.join(supported)} on x86_64 and aarch64; pre-signed ones on Ubuntu. Install one of these.",
    )


def of_foreign(installed, record):
    """The finding about a driver that is to be removed and that the role did not install."""
    return finding(
        "driver-not-installed-here",
        f"a driver is installed ({', '.join(sorted(installed))}), but not by this role: {record} is not there. Remove "
        "it with the package manager.",
    )


def of_wishes(wanted, min_branch):
    """Findings about what is asked for, which no host can grant."""
    branch, version = wanted["branch"], wanted["version"]
    if not branch.isdecimal():
        return [
            finding("driver-branch-unknown", f"nvidia_driver_branch is '{branch}'. Set it to a number, such as 580.")
        ]
    found = []
    if number(branch) < number(min_branch):
        found.append(
            finding(
                "driver-branch-too-old",
                f"driver branch {branch} is asked for, and vLLM's CUDA needs {min_branch} at least ({branch} < "
                f"{min_branch}). Set nvidia_driver_branch.",
            )
        )
    if version and branch_of(version) != branch:
        found.append(
            finding(
                "driver-version-not-of-branch",
                f"nvidia_driver_version {version} is not of nvidia_driver_branch {branch}. Set both to one branch.",
            )
        )
    return found


def of_gpus(host, min_capability):
    """Findings about GPUs; a host whose PCI devices are unknown has none."""
    gpus = host.get("pci_gpus")
    if gpus is None:
        return []
    if not gpus:
        return [
            finding(
                "no-gpu",
                "no NVIDIA GPU is on the PCI bus. Look whether it is seated, switched on in the firmware and passed "
                "through to this machine (lspci -d 10de:), or take the host out of gpu_hosts.",
            )
        ]
    old = [
        gpu
        for gpu in gpus
        if gpu.get("compute_capability") and number(gpu["compute_capability"]) < number(min_capability)
    ]
    return [
        finding(
            "gpu-too-old",
            f"{gpu.get('name') or gpu['id']} at {gpu['address']} has compute capability {gpu['compute_capability']}; "
            f"the open kernel modules and vLLM need {min_capability}. Take it out of the host, or the host out of "
            "gpu_hosts.",
        )
        for gpu in old
    ]


def of_secure_boot(host, data, wanted):
    """A finding where Secure Boot would reject the module that is built on the host."""
    state = host.get("secure_boot") or {}
    if not state.get("enabled") or state.get("mok_enrolled") or wanted["secure_boot"] == "presigned":
        return []
    tools, key = data["mok"]["tools"], data["mok"]["key"]
    canonical = (
        " Or set nvidia_driver_secure_boot: presigned, to have Canonical's signed modules."
        if "presigned" in data
        else ""
    )
    return [
        finding(
            "secure-boot-key-not-enrolled",
            "Secure Boot is on, and the key that signs modules built here is not enrolled: the kernel would reject the "
            f"driver. As root: 1. {tools}  2. test -e {key} || dkms generate_mok  3. mokutil --import {key} (choose a "
            "password)  4. reboot; at the console choose Enroll MOK, type the password  5. run this again. Or switch "
            f"Secure Boot off in the firmware.{canonical}",
        )
    ]


def of_index(data, wanted, version, index, lacking):
    """Findings about versions that are not to be had; `lacking` as without_version returns it."""
    name = data["packages"][0]
    source = data["url"] if data["index"] else "the host's package lists"
    if not version:
        there = sorted({branch_of(full) for full, _ in index.get(name, [])}) or ["none"]
        return [
            finding(
                "driver-version-unavailable",
                f"{source} has no {name} of branch {wanted['branch']} (branches there: {', '.join(there)}). Set "
                "nvidia_driver_branch, or nvidia_driver_repository_url to a repository that has it.",
            )
        ]
    return [
        finding(
            "driver-version-unavailable",
            f"{source} has no {package} {version}; nearest: {', '.join(nearest) or 'none'}. Set nvidia_driver_version "
            "to one that every package has, or nvidia_driver_repository_url to a mirror that keeps old versions.",
        )
        for package, nearest in sorted(lacking.items())
    ]


def of_headers(lacking, refreshed):
    """Findings about headers that no repository has; without refreshed package lists that may be their age."""
    return [
        finding(
            "kernel-headers-unavailable",
            f"{package} is in no repository, and without it no module can be built for that kernel. Boot a newer "
            "kernel and remove this one, or name a repository that keeps its headers.",
            "error" if refreshed else "warning",
        )
        for package in lacking
    ]


def of_origins(origins):
    """A warning where the driver's packages come from several places, whose versions differ sooner or later."""
    if len(origins) < 2:
        return []
    parts = [f"{', '.join(names)} from {origin}" for origin, names in sorted(origins.items())]
    return [
        finding(
            "driver-origins-mixed",
            f"the driver's packages come from several repositories: {'; '.join(parts)}. The next run brings what it "
            "can to one version; remove the others (apt-get purge, dnf remove).",
            "warning",
        )
    ]


def of_unpackaged(wanted, module, userspace):
    """The finding about a module that is loaded and belongs to no installed package.

    One of the wanted version, whole, is left as it is; packages on top of any other would overwrite its files.
    """
    version = module.get("version") or ""
    there = f"the module {version or 'nvidia'} is loaded, and no package of it installed: it came from a .run file"
    fits = version == wanted["version"] if wanted["version"] else branch_of(version) == wanted["branch"]
    if fits and module.get("open") and userspace == version:
        return finding(
            "driver-not-from-packages",
            f"{there} or the like, and is of the wanted version. It stays as it is; set nvidia_driver_manage to false.",
            "warning",
        )
    return finding(
        "driver-not-from-packages",
        f"{there}, or its packages were removed. Reboot; if it is loaded again, remove it where it came from "
        "(nvidia-uninstall), or keep it and set nvidia_driver_manage to false.",
    )
