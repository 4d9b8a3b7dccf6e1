"""The base image of lab hosts: a plain Debian server, made once and kept until its recipe changes."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from vllm_fleet.errors import FleetError
from vllm_fleet.lab import carry_apt
from vllm_fleet.lab.carry import CA_LOCAL, DOWNLOADS
from vllm_fleet.lab.lock import locked
from vllm_fleet.lab.settings import Settings

# What a bare-metal Debian server has after installation, so that what the roles need beyond it has to be installed by
# the roles. No kernel, no boot loader.
PACKAGES = (
    *("apt-utils", "bzip2", "ca-certificates", "cron", "dbus", "file", "init", "iproute2", "iputils-ping", "kmod"),
    *("less", "libpam-systemd", "locales", "logrotate", "lsof", "netbase", "openssh-server", "pciutils", "procps"),
    *("python3", "python3-apt", "sudo", "systemd", "systemd-sysv", "tzdata", "udev", "wget", "xz-utils"),
)
INIT = "/usr/lib/vllm-fleet-lab/init"

# On cgroup v1 systemd-nspawn mounts the controllers read-only, so that MemoryMax= and the like would be ignored inside.
# The host's cgroups are its own, so they may be writable. /dev/shm is given the size it has on an ordinary machine.
_INIT_SCRIPT = """#!/bin/sh
for directory in /sys/fs/cgroup /sys/fs/cgroup/*; do
    mountpoint -q "$directory" && mount -o remount,rw,bind "$directory"
done
mount -o remount,size=50% /dev/shm
exec /lib/systemd/systemd
"""
# Downloaded packages go to the directory all hosts share. apt's own cache cannot lie there: it has one lock.
KEEP_PACKAGES = "/usr/lib/vllm-fleet-lab/keep-packages"
_KEEP_PACKAGES_SCRIPT = f"""#!/bin/sh
id=$(cat /etc/machine-id)
for package in /var/cache/apt/archives/*.deb; do
    kept={DOWNLOADS}/apt/${{package##*/}}
    if [ -f "$package" ] && [ ! -L "$package" ] && [ ! -e "$kept" ]; then
        cp "$package" "$kept.$id" && mv "$kept.$id" "$kept"
    fi
done
exit 0
"""
# systemd-networkd configures the cable to the lab's bridge, by a file that each host gets for itself.
# Root's user manager stays between logins: on cgroup v1 a systemd in a container is not told when a unit's last process
# has ended, so a login that met the manager stopping waited for its TimeoutStopSec, two minutes.
_CUSTOMIZE = f"""
set -e
rm -f "$1"/etc/ssh/ssh_host_* "$1"/etc/hostname "$1"/etc/resolv.conf
mkdir -p "$1{Path(INIT).parent}"
cat > "$1{INIT}" <<'EOF'
{_INIT_SCRIPT}EOF
cat > "$1{KEEP_PACKAGES}" <<'EOF'
{_KEEP_PACKAGES_SCRIPT}EOF
chmod 755 "$1{INIT}" "$1{KEEP_PACKAGES}"
echo 'DPkg::Post-Invoke {{ "{KEEP_PACKAGES}"; }};' > "$1/etc/apt/apt.conf.d/90lab"
echo LANG=C.UTF-8 > "$1/etc/default/locale"
chroot "$1" update-ca-certificates
chroot "$1" systemctl enable systemd-networkd.service
chroot "$1" systemctl disable systemd-networkd-wait-online.service
chroot "$1" systemctl mask console-getty.service
mkdir -p "$1/var/log/journal" "$1/var/lib/systemd/linger"
touch "$1/var/lib/systemd/linger/root"
"""


def recipe() -> list[str]:
    """Return the mmdebstrap command without its target; its digest names the image."""
    hooks = [f"--customize-hook={_CUSTOMIZE}"]
    if certificates := sorted(CA_LOCAL.glob("*.crt")):
        names = " ".join(f"'{path}'" for path in certificates)
        hooks.insert(0, f"--customize-hook=copy-in {names} {CA_LOCAL}")
        hooks.insert(0, f'--customize-hook=mkdir -p "$1{CA_LOCAL}"')
    return [
        *("mmdebstrap", "--variant=minbase", "--format=directory", f"--include={','.join(PACKAGES)}"),
        "--skip=cleanup/apt/lists",
        *(f"--aptopt={line}" for line in carry_apt.options()),
        *hooks,
        carry_apt.SUITE,
    ]


def digest(command: list[str], sources: list[str]) -> str:
    """Return the name of the image that a recipe makes: 12 hexadecimal digits."""
    certificates = [path.read_text() for path in sorted(CA_LOCAL.glob("*.crt"))]
    return hashlib.sha256("\0".join([*command, *sources, *certificates]).encode()).hexdigest()[:12]


def current(settings: Settings) -> Path:
    """Return the directory of the image that today's recipe makes, whether or not it exists."""
    return settings.images / f"{carry_apt.SUITE}-{digest(recipe(), carry_apt.sources())}"


def ensure(settings: Settings, detail: Callable[[str], None]) -> Path:
    """Return the directory of the current base image, made if there is none.

    Args:
        settings: where images are kept.
        detail: called with each line mmdebstrap prints.

    Raises:
        FleetError: mmdebstrap failed; the message holds its last lines.
    """
    image = current(settings)
    with locked("image"):
        if image.is_dir():  # made by another lab in the meantime
            return image
        settings.images.mkdir(parents=True, exist_ok=True)
        remove_unused(settings, keep=image)
        building_place = Path(tempfile.mkdtemp(prefix=".building-", dir=settings.images))
        target = building_place / "root"
        try:
            _build([*recipe(), str(target), *carry_apt.sources()], detail)
            target.rename(image)
        finally:
            shutil.rmtree(building_place, ignore_errors=True)
    return image


def remove_unused(settings: Settings, keep: Path | None = None) -> list[Path]:
    """Remove images that neither a host's notes nor a mount refer to; returns those in use. Needs the lock "image"."""
    _remove_unfinished(settings.images)
    mounts = Path("/proc/mounts").read_text()
    notes = "".join(file.read_text() for file in settings.state.glob("*/hosts/*/host.json"))
    used = []
    for image in settings.images.glob(f"{carry_apt.SUITE}-*"):
        if image == keep or str(image) in mounts or str(image) in notes:
            used.append(image)
        else:
            shutil.rmtree(image)
    return used


def _remove_unfinished(images: Path) -> None:
    """Remove what an interrupted build left; called with the lock held."""
    for path in images.glob(".building-*"):
        shutil.rmtree(path, ignore_errors=True)


def _build(command: list[str], detail: Callable[[str], None]) -> None:
    """Run mmdebstrap; it ends with this process, and its mounts, in a namespace of their own, with it."""
    lines: list[str] = []
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    with subprocess.Popen(
        ["setpriv", "--pdeathsig=TERM", "unshare", "--mount", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env=environment,
    ) as process:
        try:
            for line in process.stdout or ():
                lines.append(line.rstrip())
                detail(lines[-1])
        except BaseException:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()
            raise
    if process.returncode:
        complaints = [line for line in lines if line.startswith(("E:", "Err:"))] or lines[-1:]
        raise FleetError(
            f"The base image could not be made (mmdebstrap: {' '.join(complaints[:2])}). "
            "Check that 'apt-get update' works on this machine, then run this again."
        )
