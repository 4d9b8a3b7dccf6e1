"""A lab's names and notes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from vllm_fleet.errors import FleetError
from vllm_fleet.lab import host, image, lock, operations, preflight, settings, state

PLACES = {"VLLM_FLEET_LAB_STATE": "/state", "VLLM_FLEET_CACHE": "/cache"}


@pytest.fixture
def lab_settings(tmp_path: Path) -> settings.Settings:
    """A lab in a directory of the test's own."""
    return settings.Settings("fleet", tmp_path / "state", tmp_path / "cache")


def a_host(name: str, address: str) -> state.Host:
    return state.Host(name, address, "0" * 32, "/images/base", ("/opt/wheels",))


def test_the_option_beats_the_environment_and_the_environment_the_default() -> None:
    assert settings.from_environment(PLACES).prefix == "fleet"
    assert settings.from_environment({**PLACES, "VLLM_FLEET_LAB": "mine"}).prefix == "mine"
    assert settings.from_environment({**PLACES, "VLLM_FLEET_LAB": "mine"}, "yours").prefix == "yours"


@pytest.mark.parametrize("prefix", ["Fleet", "my-lab", "1lab", "a" * 13, "lab/../x"])
def test_a_prefix_that_cannot_name_a_bridge_is_refused(prefix: str) -> None:
    with pytest.raises(FleetError, match="cannot name a network bridge"):
        settings.from_environment(PLACES, prefix)


def test_the_longest_prefix_still_makes_a_valid_interface_name() -> None:
    assert len(settings.from_environment(PLACES, "a" * 12).bridge) <= 15


@pytest.mark.parametrize("name", ["Lab-1", "-lab", "lab-", "lab_1", "../x", "", "a" * 33])
def test_a_name_that_no_host_can_have_is_refused(name: str) -> None:
    with pytest.raises(FleetError, match="cannot be a host name"):
        settings.check_host_name(name)


def test_hosts_are_remembered_in_the_order_of_their_addresses(lab_settings: settings.Settings) -> None:
    hosts = [a_host("b", "10.213.0.2"), a_host("a", "10.213.0.10")]
    for one in hosts:
        state.write_host(lab_settings, one)
    (lab_settings.hosts / "half-made/upper").mkdir(parents=True)
    assert state.read_hosts(lab_settings) == hosts


def test_a_host_made_before_there_were_fake_gpus_and_groups_is_read(lab_settings: settings.Settings) -> None:
    state.write_host(lab_settings, a_host("a", "10.213.0.2"))
    notes = lab_settings.hosts / "a/host.json"
    fields = json.loads(notes.read_text())
    notes.write_text(json.dumps({name: value for name, value in fields.items() if name not in ("fake_gpus", "group")}))
    assert state.read_hosts(lab_settings) == [a_host("a", "10.213.0.2")]
    assert state.read_hosts(lab_settings)[0].group == "gpu_hosts"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"name": "a"}', '{"binds": [], "colour": "red"}'])
def test_damaged_notes_name_the_file_and_the_command(lab_settings: settings.Settings, text: str) -> None:
    state.write_host(lab_settings, a_host("a", "10.213.0.2"))
    (lab_settings.hosts / "a/host.json").write_text(text)
    with pytest.raises(FleetError, match=r"a/host.json is damaged. Run: scripts/lab down a"):
        state.read_hosts(lab_settings)


def test_a_missing_host_is_answered_with_those_there_are(
    lab_settings: settings.Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operations, "is_root", lambda: True)
    state.write_host(lab_settings, a_host("lab-1", "10.213.0.2"))
    with pytest.raises(FleetError, match=r"has no host lab-7; it has: lab-1. Run: scripts/lab up lab-7"):
        operations.find(lab_settings, "lab-7")
    with pytest.raises(FleetError, match=r"Run: scripts/lab up --group clients client-1"):
        operations.find(lab_settings, "client-1")


def test_everyone_but_root_is_told_in_one_sentence(
    lab_settings: settings.Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "is_root", lambda: False)
    with pytest.raises(FleetError, match="can only be made by root"):
        preflight.check(lab_settings)


def test_missing_packages_are_named_with_the_command_that_installs_them(
    lab_settings: settings.Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = preflight.shutil.which
    monkeypatch.setattr(preflight, "is_root", lambda: True)
    monkeypatch.setattr(preflight.shutil, "which", lambda name: None if name in ("nft", "ssh") else real(name))
    message = "\n".join(map(str, preflight.findings(lab_settings)))
    assert "Debian packages are missing: " in message
    assert "apt-get install" in message
    assert {"nftables", "openssh-client"} <= set(preflight.missing_packages())


def test_the_image_changes_its_name_with_its_recipe_and_with_the_archives() -> None:
    names = {
        image.digest(["mmdebstrap", "--include=a"], ["deb http://x bookworm main"]),
        image.digest(["mmdebstrap", "--include=b"], ["deb http://x bookworm main"]),
        image.digest(["mmdebstrap", "--include=a"], ["deb http://y bookworm main"]),
    }
    assert len(names) == 3


def test_a_host_is_run_with_the_directories_that_exist_now(lab_settings: settings.Settings, tmp_path: Path) -> None:
    one = state.Host("lab-1", "10.213.0.2", "0" * 32, "/images/base", (str(tmp_path), "/not/there"))
    command = host.command(lab_settings, one)
    assert [word for word in command if word.startswith("--bind-ro")] == [f"--bind-ro={tmp_path}"]
    assert command[-1] == image.INIT


def test_a_lock_is_free_again_when_its_holder_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "LOCKS", tmp_path)
    script = (
        "import pathlib, sys, time\nfrom vllm_fleet.lab import lock\n"
        f"lock.LOCKS = pathlib.Path({str(tmp_path)!r})\n"
        "with lock.locked('x'):\n    print('held', flush=True)\n    time.sleep(60)\n"
    )
    waited = []
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()

        def waiting() -> None:
            waited.append(True)
            holder.kill()

        with lock.locked("x", waiting):
            assert waited
    assert list(tmp_path.iterdir()) == []


def test_a_directory_of_somebody_else_is_not_taken_for_a_lab(lab_settings: settings.Settings) -> None:
    (lab_settings.hosts / "precious").mkdir(parents=True)
    with pytest.raises(FleetError, match="is no lab's directory"):
        state.check_directory(lab_settings)
    assert (lab_settings.hosts / "precious").is_dir()


def test_a_full_disk_is_named_before_anything_is_made(
    lab_settings: settings.Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = preflight.shutil.disk_usage("/")._replace(free=200 * 2**20)
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(FleetError, match=r"has 0\.2 GiB left.*VLLM_FLEET_LAB_STATE"):
        preflight.check_space(lab_settings)
