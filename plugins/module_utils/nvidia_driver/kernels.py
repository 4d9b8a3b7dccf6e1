"""The kernels of a host: headers, the driver's module, the initramfs."""

from __future__ import annotations

from pathlib import Path

PLACES = ("updates", "extra", "weak-updates", "kernel/nvidia*", "kernel/drivers", "kernel/drivers/video")
BUILD_LOG = "var/lib/dkms/nvidia*/*/build/make.log"


def releases(root):
    """Return the releases of all kernels that are there themselves, not only modules somebody added for them."""
    directories = sorted(Path(root, "lib/modules").glob("*"))
    return [path.name for path in directories if (path / "kernel").is_dir() or (path / "modules.builtin").exists()]


def module_file(root, release):
    """Return the path of the nvidia module of a kernel, or None. Debian calls its own nvidia-current."""
    directory = Path(root, "lib/modules", release)
    for place in PLACES:
        for top in sorted(directory.glob(place)):
            for name in ("nvidia", "nvidia-current"):
                for path in sorted(top.rglob(name + ".ko*")):
                    return str(path)
    return None


def module_info(run, path):
    """Return (version, licence) of a module file, each None where it cannot be told."""
    if not path:
        return None, None
    return run(["modinfo", "--field", "version", path]) or None, run(["modinfo", "--field", "license", path]) or None


def look(root, run):
    """Return release, headers (bool), module (path), version and licence of the module, of each kernel."""
    found = []
    for release in releases(root):
        path = module_file(root, release)
        version, licence = module_info(run, path)
        headers = Path(root, "lib/modules", release, "build").exists()
        found.append({"release": release, "headers": headers, "module": path, "version": version, "licence": licence})
    return found


def outdated_initramfs(root, data, kernels, blacklist, run):
    """Return those kernels whose initramfs was made before the file `blacklist` was, or does not hold it.

    A kernel without an initramfs needs none; one that cannot be read is judged by its age.
    """
    file = Path(root, blacklist.lstrip("/"))
    outdated = []
    for release in kernels:
        image = Path(root, data["image"].replace("{release}", release).lstrip("/"))
        if not image.exists():
            continue
        if not file.exists():
            outdated.append(release)
            continue
        listing = run([*data["list"], str(image)])
        older = image.stat().st_mtime < file.stat().st_mtime
        if older or (listing and blacklist.lstrip("/") not in listing):
            outdated.append(release)
    return outdated


def build_log(root, lines=15):
    """Return the end of the newest log of a module build, for messages."""
    logs = sorted(Path(root).glob(BUILD_LOG), key=lambda path: path.stat().st_mtime)
    return "\n".join(logs[-1].read_text(errors="replace").splitlines()[-lines:]) if logs else ""
