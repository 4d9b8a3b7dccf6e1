"""A gateway's secrets reach the role and nobody's screen; a failure says why."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleActionFail
from ansible.parsing.dataloader import DataLoader
from ansible.parsing.vault import VaultLib, VaultSecret

from tests.load import ROOT, load
from vllm_fleet.gateway.authority import issue, make_authority, now

action = load("plugins/action/gateway_secrets.py")
NAMES = ["gpu-1.example.com"]
PASSWORD = VaultSecret(b"password")


def run(check_mode: bool = False, host: str = "gpu-1", **arguments: Any) -> dict[str, Any]:
    loader = DataLoader()
    loader.set_vault_secrets([("default", PASSWORD)])
    task = SimpleNamespace(args=arguments, check_mode=check_mode, async_val=0, no_log=False, diff=False)
    connection = SimpleNamespace(_shell=SimpleNamespace(tmpdir="/nowhere"))
    module = action.ActionModule(task, connection, None, loader, None, None)
    result: dict[str, Any] = module.run(None, {"inventory_hostname": host})
    return result


def test_keys_and_certificate_are_made_once(tmp_path: Path) -> None:
    arguments = {"directory": str(tmp_path), "keys": ["default"], "certificate_names": NAMES}
    first, second = run(**arguments), run(**arguments)
    assert (first["changed"], first["made"], first["certificate_made"]) == (True, ["default"], "there was none")
    assert (second["changed"], second["made"], second["certificate_made"]) == (False, [], None)
    for name in ("keys", "certificate", "ca", "ca_file"):
        assert first[name] == second[name]
    assert first["ca_file"] == f"{tmp_path}/ca.pem"
    assert Path(first["ca_file"]).read_text() == first["ca"]
    assert first["certificate"].count("BEGIN CERTIFICATE") == 2
    assert first["certificate"].count("BEGIN PRIVATE KEY") == 1


def test_check_mode_returns_the_same_and_keeps_nothing(tmp_path: Path) -> None:
    found = run(True, directory=str(tmp_path / "secrets"), keys=["default"], certificate_names=NAMES)
    assert found["changed"]
    assert found["keys"]["default"][0].startswith("sk-")
    assert found["certificate"]
    assert list(tmp_path.iterdir()) == []


def test_nothing_asked_for_is_nothing_made(tmp_path: Path) -> None:
    found = run(directory=str(tmp_path / "secrets"))
    told = {name: value for name, value in found.items() if not name.startswith("_")}
    assert {name: value for name, value in told.items() if value} == {}
    assert list(tmp_path.iterdir()) == []


def test_what_another_controller_made_is_missing(tmp_path: Path) -> None:
    found = run(
        directory=str(tmp_path),
        keys=["default"],
        keys_on_gateway=["default"],
        certificate_names=NAMES,
        certificate_on_gateway=True,
    )
    assert (found["keys"], found["missing"], found["certificate"]) == ({}, ["default"], None)
    assert found["certificate_missing"]
    assert not found["changed"]


def own_files(directory: Path) -> tuple[str, str]:
    pair = issue(make_authority(now()), NAMES, now())
    (directory / "c.pem").write_text(pair.certificate)
    (directory / "k.pem").write_text(pair.key)
    return pair.certificate, pair.key


def test_a_certificate_of_the_users_own_is_returned_as_it_is(tmp_path: Path) -> None:
    certificate, key = own_files(tmp_path)
    found = run(
        directory=str(tmp_path / "secrets"),
        certificate_names=NAMES,
        certificate_file=f"{tmp_path}/c.pem",
        certificate_key_file=f"{tmp_path}/k.pem",
    )
    assert (found["certificate"], found["ca"], found["ca_file"]) == (certificate + key, None, None)
    assert (found["changed"], found["certificate_missing"], found["warnings"]) == (False, False, [])
    assert not (tmp_path / "secrets").exists()


def test_both_may_be_in_one_file_and_encrypted_by_ansible_vault(tmp_path: Path) -> None:
    certificate, key = own_files(tmp_path)
    vaulted = VaultLib([("default", PASSWORD)]).encrypt((certificate + key).encode(), PASSWORD)
    (tmp_path / "both.pem").write_bytes(vaulted)
    found = run(directory=str(tmp_path), certificate_file=f"{tmp_path}/both.pem")
    assert found["certificate"] == certificate + key


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            {"certificate_file": "{}/none.pem"},
            "gateway_certificate: {}/none.pem cannot be read on the controller: No such",
        ),
        ({"certificate_file": "{}/c.pem"}, "{}/c.pem holds no private keys in PEM form"),
        ({"certificate_file": "{}/c.pem", "certificate_key_file": "{}/no"}, "gateway_certificate_key: {}/no cannot be"),
        ({"certificate_key_file": "{}/k.pem"}, "{}/k.pem, and no certificate. Set gateway_certificate, too"),
        ({"certificate_names": ["a b"]}, "cannot name 'a b'"),
        ({"keys": ["a/b"]}, "'a/b' cannot name a key"),
    ],
)
def test_a_failure_says_what_to_correct(tmp_path: Path, arguments: dict[str, Any], said: str) -> None:
    own_files(tmp_path)
    filled = {k: v.format(tmp_path) if isinstance(v, str) else v for k, v in arguments.items()}
    with pytest.raises(AnsibleActionFail) as raised:
        run(directory=str(tmp_path), **filled)
    assert said.format(tmp_path) in str(raised.value)


def test_arguments_are_those_that_are_documented() -> None:
    documented = load("plugins/modules/gateway_secrets.py").DOCUMENTATION
    options = yaml.safe_load(documented)["options"]
    for name, option in options.items():
        described = {key: option[key] for key in ("type", "elements", "default", "required") if key in option}
        assert action.ARGUMENTS[name] == described
    assert set(options) == set(action.ARGUMENTS)


PLAYBOOK = """
- hosts: all
  gather_facts: false
  become: true
  tasks:
    - gateway_secrets:
        directory: {directory}
        keys: [default]
        certificate_names: [gpu-1.example.com]
      register: secrets
    - ansible.builtin.assert:
        that: ["secrets['keys'].default | length == 1", "'PRIVATE KEY' in secrets.certificate"]
        quiet: true
"""


def test_ansible_shows_no_secret_and_reaches_no_host(tmp_path: Path) -> None:
    """Hosts that do not exist, become without a password, and no no_log at the task."""
    playbook = tmp_path / "play.yml"
    playbook.write_text(PLAYBOOK.format(directory=tmp_path / "secrets"))
    done = subprocess.run(
        [sys.executable, "-m", "ansible", "playbook", "-vvv", "--diff", "-i", "gpu-1,gpu-2,", str(playbook)],
        env=os.environ | {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    said = done.stdout + done.stderr
    secret = (tmp_path / "secrets/keys/default").read_text().strip()
    assert secret not in said
    assert "PRIVATE KEY" not in said
    assert "censored" in said
