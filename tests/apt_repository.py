"""A small signed apt repository: the names, versions and dependencies of NVIDIA's packages, and stub contents.

Nothing in it computes anything. What each stub stands for:

- nvidia-kernel-open-dkms: its module is a small ELF file that modinfo can read and no kernel can load.
- dkms: copies that file for a kernel, as the real one would build it; the file /etc/stub-dkms-makes-nothing makes it
  report success without doing so, as the real one was seen to do.
- linux-headers-RELEASE: a directory `build`. The kernels themselves are directories that the tests make.
- nvidia-persistenced, nvidia-fabricmanager: services that sleep; the first as the user it is told.
- nvidia-driver-pinning-*: real apt preferences, as NVIDIA's are.
"""

from __future__ import annotations

import gzip
import os
import re
import struct
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

VERSIONS = ("580.126.09", "580.159.04", "595.58.03")
KERNELS = ("6.1.0-91-stub", "6.1.0-92-stub")
DIRECTORY = "debian12/x86_64"
KEYRING = "usr/share/keyrings/cuda-archive-keyring.gpg"

DKMS = """#!/bin/sh
# Stub of dkms: dkms autoinstall --kernelver RELEASE
[ "$1" = autoinstall ] || exit 0
mkdir -p /var/lib/dkms/nvidia/stub/build
echo "make[1]: stub: no C++ compiler for $3" > /var/lib/dkms/nvidia/stub/build/make.log
[ -e /etc/stub-dkms-makes-nothing ] && exit 0
[ -d "/lib/modules/$3/build" ] || exit 0
mkdir -p "/lib/modules/$3/updates/dkms"
cp /usr/src/nvidia-stub/nvidia.ko "/lib/modules/$3/updates/dkms/nvidia.ko"
"""
BUILD_FOR_ALL = """#!/bin/sh
for kernel in /lib/modules/*/kernel; do
  /usr/sbin/dkms autoinstall --kernelver "$(basename "$(dirname "$kernel")")"
done
"""
CLEAN = """#!/bin/sh
[ "$1" = upgrade ] || rm -f /lib/modules/*/updates/dkms/nvidia.ko
"""
PERSISTENCED = """#!/bin/sh
# Stub of nvidia-persistenced: --user NAME is honoured, the rest ignored.
[ "$1" = --user ] && exec setpriv --reuid "$2" --clear-groups sleep infinity
exec sleep infinity
"""


def unit(program: str) -> str:
    """Return a service unit for a stub daemon."""
    return f"[Unit]\nDescription=stub\n[Service]\nExecStart={program}\n[Install]\nWantedBy=multi-user.target\n"


def module(version: str) -> bytes:
    """Return an ELF file with nothing but a section .modinfo, which is all that modinfo reads."""
    info = f"license=Dual MIT/GPL\0version={version}\0name=nvidia\0vermagic=stub\0".encode()
    names = b"\0.modinfo\0.shstrtab\0"
    start = 64
    sections = start + len(info) + len(names)
    header = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 1, 62, 1, 0, 0, sections, 0, 64, 0, 0, 64, 3, 2)
    entries = bytes(64)
    for name, kind, offset, size in ((1, 1, start, len(info)), (10, 3, start + len(info), len(names))):
        entries += struct.pack("<IIQQQQIIQQ", name, kind, 0, 0, offset, size, 0, 0, 1, 0)
    return header + info + names + entries


@dataclass(frozen=True)
class Package:
    """A stub package: its control fields and its files by path; `scripts` are those of the maintainer."""

    name: str
    version: str
    fields: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str | bytes] = field(default_factory=dict)
    scripts: Mapping[str, str] = field(default_factory=dict)

    def build(self, directory: Path, work: Path) -> None:
        """Write the .deb file to `directory`."""
        tree = work / f"{self.name}_{self.version}"
        control = {"Package": self.name, "Version": self.version, "Architecture": "all", **self.fields}
        control |= {"Maintainer": "tests <tests@invalid>", "Description": "stub for tests, does nothing"}
        text = "".join(f"{key}: {value}\n" for key, value in control.items())
        files = {"DEBIAN/control": text, **self.files}
        files |= {f"DEBIAN/{name}": script for name, script in self.scripts.items()}
        for name, content in files.items():
            path = tree / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
            path.chmod(0o755 if "bin/" in name or name.startswith("DEBIAN/p") else 0o644)
        command = ["dpkg-deb", "--root-owner-group", "-Znone", "--build", tree, directory / f"{tree.name}_all.deb"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def pinning(wanted: str, version: str) -> Package:
    """Return the package that pins the driver to a branch (580) or a version."""
    name = f"nvidia-driver-pinning-{wanted}"
    text = f"Package: nvidia-* libnvidia-* libcuda1 cuda-drivers\nPin: version {wanted}*\nPin-Priority: 1000\n"
    others = {"Provides": "nvidia-driver-pinning", "Conflicts": "nvidia-driver-pinning"}
    return Package(
        name, version, {**others, "Replaces": "nvidia-driver-pinning"}, {f"etc/apt/preferences.d/{name}": text}
    )


def driver(version: str) -> list[Package]:
    """Return the driver's packages of one version."""
    full = f"{version}-1"
    same = f"(= {full})"
    userspace = f"libcuda1 {same}, libnvidia-ml1 {same}, nvidia-modprobe {same}, nvidia-persistenced (>= 580)"
    source = {"usr/src/nvidia-stub/nvidia.ko": module(version)}
    return [
        Package("nvidia-open", full, {"Depends": f"nvidia-kernel-open-dkms {same}, {userspace}"}),
        Package("cuda-drivers", full, {"Depends": f"nvidia-open {same}"}),
        Package(
            *("nvidia-kernel-open-dkms", full, {"Depends": "dkms"}, source),
            {"postinst": BUILD_FOR_ALL, "postrm": CLEAN},
        ),
        Package("libcuda1", full, {"Depends": f"libnvidia-ml1 {same}"}),
        Package("libnvidia-ml1", full),
        Package("nvidia-modprobe", full),
        Package(
            *("nvidia-persistenced", full, {}),
            {
                "usr/bin/nvidia-persistenced": PERSISTENCED,
                "lib/systemd/system/nvidia-persistenced.service": unit("/usr/bin/nvidia-persistenced"),
            },
        ),
        Package(
            *("nvidia-fabricmanager", full, {}),
            {
                "usr/bin/nv-fabricmanager": "#!/bin/sh\nexec sleep infinity\n",
                "lib/systemd/system/nvidia-fabricmanager.service": unit("/usr/bin/nv-fabricmanager"),
            },
        ),
        pinning(version, full),
    ]


def everything() -> list[Package]:
    """Return all packages of the repository."""
    found = [package for version in VERSIONS for package in driver(version)]
    found += [pinning(branch, f"{branch}-1") for branch in sorted({version.split(".")[0] for version in VERSIONS})]
    found += [
        Package(f"linux-headers-{name}", "6.1.1-1", {}, {f"lib/modules/{name}/build/Makefile": ""}) for name in KERNELS
    ]
    found.append(Package("dkms", "99", {}, {"usr/sbin/dkms": DKMS}))
    return found


def gpg(home: Path, *arguments: str | Path) -> bytes:
    """Run gpg with a home of its own."""
    command = ["gpg", "--homedir", str(home), "--batch", "--yes", "--quiet", *map(str, arguments)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout


def write_index(directory: Path) -> None:
    """Write Packages, Packages.gz and an unsigned Release."""
    command = ["dpkg-scanpackages", "--multiversion", "."]
    packages = subprocess.run(
        command, cwd=directory, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ).stdout
    (directory / "Packages").write_bytes(packages)
    (directory / "Packages.gz").write_bytes(gzip.compress(packages))
    sums = "".join(
        f" {sha256((directory / name).read_bytes()).hexdigest()} {(directory / name).stat().st_size} {name}\n"
        for name in ("Packages", "Packages.gz")
    )
    (directory / "Release").write_text(f"Origin: NVIDIA\nLabel: NVIDIA CUDA\nArchitecture: amd64\nSHA256:\n{sums}")


def build(root: Path) -> None:
    """Build the repository below `root`, as NVIDIA's base URL would have it: debian12/x86_64/."""
    directory, work, home = root / DIRECTORY, root / "work", root / "gnupg"
    for path in (directory, work, home):
        path.mkdir(parents=True)
    home.chmod(0o700)
    for package in everything():
        package.build(directory, work)
    write_index(directory)
    gpg(home, "--passphrase", "", "--quick-generate-key", "tests", "ed25519", "sign", "never")
    gpg(home, "--clearsign", "--output", directory / "InRelease", directory / "Release")
    key = gpg(home, "--export", "tests")
    Package("cuda-keyring", "1.1-1", {}, {KEYRING: key}).build(directory, work)
    (directory / "cuda-keyring_1.1-1_all.deb").chmod(0o644)
    subprocess.run(["gpgconf", "--homedir", home, "--kill", "all"], check=False)


@dataclass
class Repository:
    """A repository that is served: where, which paths it refuses at the moment, and what was asked for."""

    url: str = ""
    refuse: str = ""
    asked: list[str] = field(default_factory=list)


class Handler(SimpleHTTPRequestHandler):
    """Serves files, and refuses what it is told to."""

    protocol_version = "HTTP/1.1"
    repository: Repository

    def do_GET(self) -> None:
        """Answer a request."""
        self.repository.asked.append(self.path)
        if self.repository.refuse and re.search(self.repository.refuse, self.path):
            self.send_error(503, "refused by the test")
            return
        super().do_GET()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def serve(root: Path, address: str) -> Iterator[Repository]:
    """Serve what `build` made until the block ends."""
    repository = Repository()
    handler = partial(type("BoundHandler", (Handler,), {"repository": repository}), directory=os.fspath(root))
    server = ThreadingHTTPServer((address, 0), handler)
    server.daemon_threads = True
    repository.url = f"http://{address}:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield repository
    finally:
        server.shutdown()
        server.server_close()
