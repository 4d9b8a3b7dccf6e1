"""Kernels and what builds modules for them: the next reboot must not lose the GPU."""

from __future__ import annotations

import re
from collections.abc import Iterator

from vllm_fleet.preflight.findings import Finding, repaired, warning
from vllm_fleet.preflight.wanted import Facts, Wanted, driver_present, items, look, names


def findings(facts: Facts, wanted: Wanted) -> Iterator[Finding]:
    """Yield what keeps a module from being built for, or loaded into, any installed kernel."""
    without = [kernel for kernel in items(facts, "kernels") if not kernel.get("nvidia_module")]
    unready = [kernel["release"] for kernel in without if kernel.get("headers") is False]
    if driver_present(facts):
        for kernel in without:
            release = kernel["release"]
            headers = f", and its headers are missing (linux-headers-{release}, on EL kernel-devel)"
            yield repaired(
                wanted.driver_managed,
                "kernel-without-module",
                f"Kernel {release} has no NVIDIA module{headers if release in unready else ''}: the next reboot into "
                "it loses the GPU. "
                + (
                    "This run builds it."
                    if wanted.driver_managed
                    else f"Install what is missing and run: dkms autoinstall -k {release}"
                ),
            )
    elif unready and wanted.driver_managed:
        yield warning(
            "kernel-headers",
            f"The headers of kernel {names(unready)} are missing, without which no module is built for it. This run "
            "installs them; see that the repository still has them.",
        )
    if not (wanted.driver_managed and wanted.presigned_modules):
        yield from _secure_boot(facts)
    if without:
        yield from _compiler(facts)


def _secure_boot(facts: Facts) -> Iterator[Finding]:
    enrolled = look(facts, "secure_boot", "mok_enrolled")
    # A module that is loaded was signed with a key the kernel trusts.
    if look(facts, "secure_boot", "enabled") is not True or enrolled or look(facts, "nvidia", "module", "loaded"):
        return
    unknown = enrolled is None
    yield repaired(
        unknown,
        "secure-boot-key-not-enrolled",
        f"Secure Boot is on, and {'it cannot be read whether ' if unknown else ''}the key that signs built modules is "
        f"{'' if unknown else 'not '}enrolled: without it the kernel refuses the NVIDIA module. Enrol it (mokutil "
        "--import /var/lib/dkms/mok.pub, then confirm at the console at the next boot), use Ubuntu's signed modules "
        "(linux-modules-nvidia-*-open), or switch Secure Boot off.",
    )


def _compiler(facts: Facts) -> Iterator[Finding]:
    """Compare the major versions of gcc; a kernel's build flags are unknown to an older one."""
    ours = re.search(r"gcc\D*(\d+)\.", look(facts, "compiler", "cc") or "")
    text = look(facts, "compiler", "kernel_cc") or ""
    # "gcc-12 (Debian 12.2.0-14) 12.2.0, GNU ld ..." or "gcc (GCC) 11.4.1 20231218 ..."
    kernels = re.search(r"gcc(?:-\d+)?\s*(?:\([^)]*\))?\s*(\d+)\.", text)
    if ours and kernels and int(ours[1]) < int(kernels[1]):
        yield warning(
            "compiler-older-than-kernel",
            f"The compiler is gcc {ours[1]}, the kernel was built with gcc {kernels[1]}, whose flags it may not know, "
            f"so that the driver's module is not built. Install gcc-{kernels[1]}.",
        )
