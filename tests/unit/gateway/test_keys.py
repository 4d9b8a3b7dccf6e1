"""Generated keys: made once, kept privately, rotated without losing one."""

from __future__ import annotations

import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from vllm_fleet.errors import FleetError
from vllm_fleet.gateway import cli, files, keys

ONE, TWO = "sk-" + "1" * 43, "sk-" + "2" * 43


def keep(directory: Path, name: str, text: str) -> Path:
    file = directory / "keys" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch(0o600)
    file.write_text(text)
    return file


def test_a_key_is_generated_once(tmp_path: Path) -> None:
    first, second = (keys.ensure(tmp_path, ["default", "team"]) for _ in range(2))
    assert (first.made, second.made) == (("default", "team"), ())
    assert first.secrets == second.secrets
    assert all(re.fullmatch(r"sk-[\w-]{43}", secret) for secrets in first.secrets.values() for secret in secrets)
    assert first.secrets["default"] != first.secrets["team"]


def test_files_are_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        keys.ensure(tmp_path / "secrets", ["default"])
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "secrets").rglob("*")}
    assert modes == {".lock": 0o600, "keys": 0o700, "default": 0o600}


def test_check_mode_keeps_nothing(tmp_path: Path) -> None:
    assert keys.ensure(tmp_path / "secrets", ["default"], dry=True).made == ("default",)
    assert list(tmp_path.iterdir()) == []


def test_a_key_of_another_controller_is_missing_and_a_new_one_is_not(tmp_path: Path) -> None:
    found = keys.ensure(tmp_path, ["default", "new"], elsewhere=["default"])
    assert (found.made, found.missing, list(found.secrets)) == (("new",), ("default",), ["new"])


def test_a_key_that_is_kept_here_is_not_missing(tmp_path: Path) -> None:
    keep(tmp_path, "default", f"{ONE}\n")
    found = keys.ensure(tmp_path, ["default"], elsewhere=["default"])
    assert (found.secrets, found.missing) == ({"default": (ONE,)}, ())


def ensure(directory: Path) -> str:
    return keys.ensure(directory, ["default"]).secrets["default"][0]


def test_runs_at_once_agree_on_one_secret(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(ensure, [tmp_path] * 8))) == 1


def rotate(directory: Path) -> str:
    return keys.rotate(directory, "default")[0]


def test_rotations_at_once_lose_no_secret(tmp_path: Path) -> None:
    keep(tmp_path, "default", f"{ONE}\n")
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(rotate, [tmp_path] * 8))
    assert set(keys.known_key(tmp_path, "default")) == {ONE, *made}


def test_a_rotated_key_has_a_new_secret_in_front_and_retiring_drops_the_former(tmp_path: Path) -> None:
    keep(tmp_path, "default", f"{ONE}\n{TWO}\n")
    new, *former = keys.rotate(tmp_path, "default")
    assert former == [ONE, TWO]
    assert keys.retire(tmp_path, "default") == 2
    assert keys.known_key(tmp_path, "default") == (new,)
    assert keys.retire(tmp_path, "default") == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty. Restore it from a backup. Without one, remove it, run: scripts/gateway-keys --directory"),
        ("\n \n", "is empty"),
        (f"{ONE}\nshort\n", "secret 2 of 2 is not 16 to 512 printable ASCII characters"),
        ("sk with spaces in it\n", "secret 1 of 1"),
        ("sk-ключключключключ\n", "secret 1 of 1"),
    ],
)
@pytest.mark.parametrize("dry", [False, True])
def test_a_damaged_file_is_named_and_left_alone(tmp_path: Path, text: str, said: str, dry: bool) -> None:
    file = keep(tmp_path, "default", text)
    with pytest.raises(FleetError, match=said) as raised:
        keys.ensure(tmp_path, ["default"], dry=dry)
    assert str(file) in str(raised.value)
    assert ONE not in str(raised.value)
    assert file.read_text() == text


def test_bytes_that_are_no_text_are_named(tmp_path: Path) -> None:
    keep(tmp_path, "default", "").write_bytes(b"\xff\xfe")
    with pytest.raises(FleetError, match="it is no text"):
        keys.ensure(tmp_path, ["default"])


def test_a_file_that_others_could_read_is_made_private_and_told_of(tmp_path: Path) -> None:
    file = keep(tmp_path, "default", f"{ONE}\n")
    file.chmod(0o644)
    assert "A run makes it private" in keys.ensure(tmp_path, ["default"], dry=True).warnings[0]
    assert "mode 0644). It is private now" in keys.ensure(tmp_path, ["default"]).warnings[0]
    assert file.stat().st_mode & 0o777 == 0o600
    assert keys.ensure(tmp_path, ["default"]).warnings == ()


@pytest.mark.parametrize("name", ["", "../ca.key", "a/b", ".lock", "a b", "x" * 65, "ключ"])
def test_a_name_that_is_no_file_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(FleetError, match="cannot name a key"):
        keys.ensure(tmp_path, [name])


@pytest.mark.parametrize("verb", ["read", "written"])
def test_a_directory_that_cannot_be_used_is_named(tmp_path: Path, verb: str) -> None:
    (tmp_path / "file").write_text("")
    directory = tmp_path / "file" if verb == "read" else Path("/sys/secrets")  # nobody makes one there
    with pytest.raises(FleetError, match=rf"^{directory}.* cannot be {verb}: .*gateway_secrets_directory"):
        keys.ensure(directory, ["default"])


def test_a_key_that_was_lost_is_made_anew_only_when_asked(tmp_path: Path) -> None:
    secret = keys.create(tmp_path, "default")
    assert keys.ensure(tmp_path, ["default"], elsewhere=["default"]).secrets == {"default": (secret,)}
    with pytest.raises(FleetError, match="A new secret beside the former: rotate default"):
        keys.create(tmp_path, "default")


def run(directory: Path, *arguments: str) -> int:
    return cli.main(["--directory", str(directory), *arguments])


def test_show_prints_the_current_secret_and_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keep(tmp_path, "default", f"{TWO}\n{ONE}\n")
    assert run(tmp_path, "show", "default") == 0
    assert capsys.readouterr() == (f"{TWO}\n", "")


@pytest.mark.parametrize(
    "arguments", [["list"], ["rotate", "default"], ["retire", "default"], ["create", "new"], ["ca"], ["create-ca"]]
)
def test_no_other_command_prints_a_secret(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    keep(tmp_path, "default", f"{TWO}\n{ONE}\n")
    run(tmp_path, *arguments)
    assert "sk-" not in "".join(capsys.readouterr())


def test_list_names_keys_and_counts_secrets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keep(tmp_path, "default", f"{TWO}\n{ONE}\n")
    keep(tmp_path, "b", f"{ONE}\n")
    keep(tmp_path, ".b.new", "half")
    run(tmp_path, "list")
    assert capsys.readouterr().out.splitlines() == [
        "b        1 secret",
        "default  2 secrets, the first is the current one",
    ]


@pytest.mark.parametrize("command", ["rotate", "retire"])
def test_what_to_run_next_names_the_inventory(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setattr(files, "ROOT", tmp_path)
    keep(tmp_path / ".vllm-fleet/secrets/example", "default", f"{TWO}\n{ONE}\n")
    (tmp_path / "example").mkdir()
    assert cli.main(["-i", f"{tmp_path}/example/", command, "default"]) == 0
    assert f"\n  ansible-playbook playbooks/gateway.yml -i {tmp_path}/example/" in capsys.readouterr().out


def test_an_unknown_key_is_told_with_the_known_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keep(tmp_path, "default", f"{ONE}\n")
    assert run(tmp_path, "rotate", "defualt") == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert f"There is no generated key defualt in {tmp_path}; there: default." in err


def test_the_ca_certificate_is_found_or_said_how_to_make(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, "ca") == 2
    assert "It is made by: ansible-playbook playbooks/gateway.yml" in capsys.readouterr().err
    (tmp_path / "ca.pem").write_text("")
    assert run(tmp_path, "ca") == 0
    assert capsys.readouterr().out == f"{tmp_path}/ca.pem\n"


def test_an_authority_that_was_lost_is_made_anew_only_when_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, "create-ca") == 0
    assert capsys.readouterr().out == (
        f"Clients need {tmp_path}/ca.pem, as soon as this has run:\n  ansible-playbook playbooks/gateway.yml\n"
    )
    before = (tmp_path / "ca.pem").read_text()
    assert run(tmp_path, "create-ca") == 2
    assert f"An authority is kept in {tmp_path} already." in capsys.readouterr().err
    assert (tmp_path / "ca.pem").read_text() == before


def test_a_directory_and_a_file_in_it_are_the_same_inventory(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "hosts.yml").touch()
    found = {files.secrets_directory(str(tmp_path / path)) for path in ("mine", "mine/", "mine/hosts.yml")}
    assert found == {files.ROOT / ".vllm-fleet/secrets/mine"}
    assert files.secrets_directory() == files.ROOT / ".vllm-fleet/secrets/lab"
