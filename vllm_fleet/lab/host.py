"""Make, start, stop and remove one lab host."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import socket
import time
from ipaddress import IPv4Network
from pathlib import Path

from vllm_fleet.errors import FleetError
from vllm_fleet.lab import fake_gpus, image, runner, state, wanted
from vllm_fleet.lab.carry import DOWNLOADS, Item, Luggage
from vllm_fleet.lab.process import run, succeeds
from vllm_fleet.lab.settings import DOWNLOAD_PARTS, Settings

START_SECONDS = 180.0  # a loaded machine boots a host in 90
REBOOT_PATIENCE = 10.0
DISCARD_PATIENCE = 5.0  # nothing of it is kept, so it need not take its time

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def make(settings: Settings, host: state.Host, network: IPv4Network, luggage: Luggage) -> state.Host:
    """Lay out a new host's filesystem on top of the base image, and only then note it as made."""
    discard(settings, host.name)
    directory = settings.hosts / host.name
    for part in ("upper", "work", "root"):
        (directory / part).mkdir(parents=True)
    mount(settings, host)
    _configure(settings, host, network, luggage)
    if host.fake_gpus:
        fake_gpus.install(host.fake_gpus, directory / "root")
    state.write_host(settings, host)
    return host


def start(settings: Settings, host: state.Host) -> None:
    """Start a host that is not running, without waiting for it."""
    if not Path(host.image).is_dir():
        raise FleetError(
            f"The base image of {host.name}, {host.image}, is gone. "
            f"Make the host anew: {settings.command(f'down {host.name}')}, "
            f"then {settings.command(wanted.up_words(host.name, host.group, host.fake_gpus))}"
        )
    machine = settings.machine(host.name)
    runner.stop(machine)
    mount(settings, host)
    for part in DOWNLOAD_PARTS:
        (settings.downloads / part).mkdir(parents=True, exist_ok=True)
    runner.start(machine, command(settings, host), console_log(settings, host))


def discard(settings: Settings, name: str) -> None:
    """Remove a host, half-made or whole, with everything in it."""
    runner.stop(settings.machine(name), DISCARD_PATIENCE)
    root = settings.hosts / name / "root"
    while os.path.ismount(root):
        if not succeeds(["umount", str(root)]):
            run(["umount", "--lazy", str(root)])
    # Without its notes an interrupted removal leaves something half-made, which the next `up` or `down` clears.
    (settings.hosts / name / "host.json").unlink(missing_ok=True)
    if (settings.hosts / name).exists():
        shutil.rmtree(settings.hosts / name)


def mount(settings: Settings, host: state.Host) -> None:
    """Put the host's own layer on top of its base image, unless it is there."""
    directory = settings.hosts / host.name
    if os.path.ismount(directory / "root"):
        return
    layers = f"lowerdir={host.image},upperdir={directory / 'upper'},workdir={directory / 'work'}"
    run(["mount", "-t", "overlay", settings.machine(host.name), "-o", layers, str(directory / "root")])


def command(settings: Settings, host: state.Host) -> list[str]:
    """Return the systemd-nspawn command that runs a host."""
    return [
        *("systemd-nspawn", "--quiet", "--settings=no", "--register=no", "--keep-unit"),
        f"--directory={settings.hosts / host.name / 'root'}",
        f"--machine={settings.machine(host.name)}",
        f"--hostname={host.name}",
        f"--network-bridge={settings.bridge}",
        *("--resolv-conf=off", "--timezone=off", "--link-journal=no", "--console=read-only"),
        "--kill-signal=SIGRTMIN+3",  # a clean shutdown, as --boot would set it
        "--system-call-filter=bpf",  # DevicePolicy= and IPAddressDeny= of units inside need it on cgroup v2
        # Not as a whole: what services of the host cache beside it is its own.
        *(f"--bind={settings.downloads / part}:{DOWNLOADS / part}" for part in DOWNLOAD_PARTS),
        *(f"--bind-ro={path}" for path in host.binds if Path(path).is_dir()),
        image.INIT,
    ]


def console_log(settings: Settings, host: state.Host) -> Path:
    """Return where a host's console goes if this machine has no journal."""
    return settings.hosts / host.name / "console.log"


def answers(host: state.Host, timeout: float = 1) -> bool:
    """Whether the host's sshd greets."""
    try:
        with socket.create_connection((host.address, 22), timeout=timeout) as connection:
            connection.settimeout(timeout)
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def is_up(settings: Settings, host: state.Host) -> bool:
    """Whether a host runs and answers; one that is just rebooting is given a few seconds, if it has its cable."""
    machine = settings.machine(host.name)
    deadline = time.monotonic() + REBOOT_PATIENCE
    while runner.is_running(machine):
        if answers(host):
            return True
        if time.monotonic() > deadline or not any(Path("/sys/class/net", settings.bridge, "brif").iterdir()):
            break
        time.sleep(0.2)
    return False


def wait(settings: Settings, host: state.Host) -> None:
    """Wait until a started host answers over ssh.

    Raises:
        FleetError: it ended, or does not answer in time; the message says where its console log is.
    """
    machine = settings.machine(host.name)
    log = runner.log_command(machine, console_log(settings, host))
    begin = time.monotonic()
    while not answers(host):
        if time.monotonic() - begin > 3 and not runner.is_running(machine):
            last = (_COLOUR.sub("", run(log)).strip().splitlines() or ["it printed nothing"])[-1].strip()
            raise FleetError(f"The lab host {host.name} ended while starting ({last}). All of it: {shlex.join(log)}")
        if time.monotonic() - begin > START_SECONDS:
            raise FleetError(
                f"The lab host {host.name} ({host.address}) does not answer ssh after {START_SECONDS:.0f} s. "
                f"Its console may say why: {shlex.join(log)}"
            )
        time.sleep(0.1)


def ssh_options(settings: Settings) -> list[str]:
    """Return options with which ssh knows this lab's hosts and nothing of the user's own configuration."""
    return [
        *("-F", "/dev/null", "-o", "IdentitiesOnly=yes", "-o", "StrictHostKeyChecking=yes"),
        *("-o", f"UserKnownHostsFile={settings.known_hosts}", "-o", "GlobalKnownHostsFile=/dev/null"),
    ]


def ssh_command(settings: Settings, host: state.Host) -> list[str]:
    """Return the ssh command that opens a host."""
    return ["ssh", *ssh_options(settings), "-o", "LogLevel=ERROR", "-i", str(settings.key), f"root@{host.address}"]


def remote(settings: Settings, host: state.Host, words: list[str]) -> str:
    """Return what a short command prints in a host, "" if it fails or the host does not answer."""
    options = ["-n", "-o", "ConnectTimeout=2", "-o", "ServerAliveInterval=5"]
    try:
        return run([*ssh_command(settings, host), *options, shlex.join(words)])
    except FleetError:
        return ""


def boot_time(settings: Settings, host: state.Host) -> str:
    """Return what changes with every boot of the host, "" if it does not answer."""
    return remote(settings, host, ["systemctl", "show", "--property=UserspaceTimestampMonotonic"]).strip()


def ensure_key(settings: Settings) -> None:
    """Make the key pair that opens all hosts of the lab."""
    if not settings.key.with_suffix(".pub").exists():
        settings.directory.mkdir(parents=True, exist_ok=True)
        settings.directory.chmod(0o700)
        _generate_key(settings.key, f"{settings.prefix} lab of vllm-fleet")


def write_known_hosts(settings: Settings) -> None:
    """Write the host keys of all hosts that are made."""
    lines = []
    for host in state.read_hosts(settings):
        public = (settings.hosts / host.name / "upper/etc/ssh/ssh_host_ed25519_key.pub").read_text().split()
        lines.append(f"{host.address} {public[0]} {public[1]}\n")
    state.write_atomically(settings.known_hosts, "".join(lines))


def _generate_key(path: Path, comment: str) -> None:
    """Make an ed25519 key pair at `path` and `path`.pub."""
    path.unlink(missing_ok=True)
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path)])


def _configure(settings: Settings, host: state.Host, network: IPv4Network, luggage: Luggage) -> None:
    """Write what makes this host itself, and what it takes over from the machine."""
    root = settings.hosts / host.name / "root"
    address = f"Address={host.address}/{network.prefixlen}\nGateway={network[1]}\nIPv6AcceptRA=no\n"
    names = f"127.0.0.1 localhost\n127.0.1.1 {host.name}\n::1 localhost ip6-localhost ip6-loopback\n"
    own = {
        Path("/etc/hostname"): f"{host.name}\n",
        Path("/etc/hosts"): names + luggage.names,
        Path("/etc/machine-id"): f"{host.machine_id}\n",
        Path("/etc/systemd/network/10-host0.network"): f"[Match]\nName=host0\n\n[Network]\n{address}",
        Path("/root/.ssh/authorized_keys"): settings.key.with_suffix(".pub").read_text(),
    }
    for path, item in {**luggage.files, **{path: Item(text.encode()) for path, text in own.items()}}.items():
        target = root / path.relative_to("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch(mode=0o600)
        target.chmod(item.mode)
        target.write_bytes(item.content)
    (root / "root/.ssh").chmod(0o700)
    _generate_key(root / "etc/ssh/ssh_host_ed25519_key", f"root@{host.name}")
    for package in (settings.downloads / "apt").glob("*.deb"):
        (root / "var/cache/apt/archives" / package.name).symlink_to(DOWNLOADS / "apt" / package.name)
