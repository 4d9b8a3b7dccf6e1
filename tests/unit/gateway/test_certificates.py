"""The own authority and its certificates: accepted by strict clients, renewed in time, never made by halves."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from vllm_fleet.errors import FleetError
from vllm_fleet.gateway import files
from vllm_fleet.gateway.authority import Pair, general_names, issue, make_authority, now, reason_to_renew
from vllm_fleet.gateway.certificates import Served, given, own, split

NAMES = ["gpu-1.example.com", "192.0.2.10", "[2001:db8::1]"]
DAY = timedelta(days=1)
AT = datetime(2026, 11, 26, 12, tzinfo=UTC)


def served(directory: Path, at: datetime | None = None, names: Sequence[str] = NAMES, host: str = "gpu-1") -> Served:
    found = own(directory, host, names, at=at)
    assert found is not None
    return found


def pair_of(found: Served) -> Pair:
    pair = split(found.pem)
    assert pair is not None
    return pair


def handshake(found: Served, directory: Path, name: str) -> None:
    """Connect as a client that trusts the authority and nobody else, and takes certificates by the letter."""
    pem = directory / "served.pem"
    pem.write_text(found.pem)
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(pem)
    client_context = ssl.create_default_context(cafile=str(found.ca_file))
    client_context.verify_flags |= ssl.VERIFY_X509_STRICT  # what Python does by itself from 3.13 on
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    client = client_context.wrap_bio(to_client, to_server, server_hostname=name)
    for end in (client, server, client, server):
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue


@pytest.mark.parametrize("name", ["gpu-1.example.com", "192.0.2.10", "2001:db8::1"])
def test_a_strict_client_accepts_it_by_each_of_its_names(tmp_path: Path, name: str) -> None:
    handshake(served(tmp_path), tmp_path, name)


def test_a_client_refuses_it_by_another_name(tmp_path: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="gpu-2"):
        handshake(served(tmp_path), tmp_path, "gpu-2.example.com")


def test_the_authority_lives_ten_years_and_signs_no_other_authority(tmp_path: Path) -> None:
    authority = x509.load_pem_x509_certificate(str(served(tmp_path, AT).ca).encode())
    assert authority.not_valid_after_utc - authority.not_valid_before_utc == timedelta(days=3650)
    constraints = authority.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert (constraints.ca, constraints.path_length) == (True, 0)


def test_a_certificate_lives_no_longer_than_clients_accept(tmp_path: Path) -> None:
    certificate = pair_of(served(tmp_path, AT)).first
    assert certificate.not_valid_after_utc - certificate.not_valid_before_utc == timedelta(days=397)


def test_files_are_private(tmp_path: Path) -> None:
    directory = tmp_path / "secrets" / "lab"
    served(directory)
    modes = {path.name: path.stat().st_mode & 0o777 for path in directory.rglob("*")}
    assert modes.pop("certificates") == 0o700 == directory.stat().st_mode & 0o777
    assert sorted(modes) == [".lock", "ca.key", "ca.pem", "gpu-1.pem"]
    assert set(modes.values()) == {0o600}


def test_a_second_run_changes_nothing(tmp_path: Path) -> None:
    first, second = served(tmp_path), served(tmp_path)
    assert (first.made, second.made) == ("there was none", None)
    assert first.pem == second.pem


@pytest.mark.parametrize(
    ("days", "names", "made"),
    [
        (336, NAMES, None),
        (337, NAMES, "it ends on 2027-12-28"),
        (1, [*NAMES, "more.example.com"], "the names changed"),
        (1, NAMES[:1], "the names changed"),
        (1, [*reversed(NAMES), "GPU-1.example.com."], None),
        (-1, NAMES, "it is not valid yet"),
    ],
)
def test_it_is_renewed_when_it_must_be(tmp_path: Path, days: int, names: list[str], made: str | None) -> None:
    before = served(tmp_path, AT)
    after = served(tmp_path, AT + days * DAY, names)
    assert after.made == made
    assert (after.pem == before.pem) == (made is None)
    assert after.ca == before.ca


def test_it_is_renewed_when_another_authority_signed_it(tmp_path: Path) -> None:
    before = served(tmp_path)
    for name in ("ca.pem", "ca.key"):
        (tmp_path / name).unlink()
    after = served(tmp_path)
    assert after.made == "it is damaged, or another authority signed it"
    assert after.ca != before.ca


@pytest.mark.parametrize("damage", ["", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "half"])
def test_a_damaged_certificate_is_made_anew(tmp_path: Path, damage: str) -> None:
    whole = served(tmp_path).pem
    (tmp_path / "certificates" / "gpu-1.pem").write_text(whole[: len(whole) // 2] if damage == "half" else damage)
    assert served(tmp_path).made
    assert served(tmp_path).made is None


def test_each_gateway_has_its_own_of_one_authority(tmp_path: Path) -> None:
    one, two = served(tmp_path, host="gpu-1"), served(tmp_path, host="gpu-2", names=["192.0.2.11"])
    assert one.ca == two.ca
    assert served(tmp_path, host="gpu-1").pem == one.pem != two.pem


def test_check_mode_keeps_nothing(tmp_path: Path) -> None:
    found = own(tmp_path / "secrets", "gpu-1", NAMES, dry=True)
    assert found is not None
    assert found.made == "there was none"
    assert list(tmp_path.iterdir()) == []


def test_nobody_makes_another_authority_where_a_gateway_has_one(tmp_path: Path) -> None:
    assert own(tmp_path, "gpu-1", NAMES, elsewhere=True) is None
    assert list(tmp_path.iterdir()) == []
    served(tmp_path)
    assert own(tmp_path, "gpu-1", NAMES, elsewhere=True) is not None


def test_the_making_of_an_authority_that_was_cut_short_is_made_up_for(tmp_path: Path) -> None:
    served(tmp_path)
    (tmp_path / "ca.pem").unlink()
    assert served(tmp_path).made
    assert served(tmp_path).made is None


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("ca.key", None, "ca.key, the private key of ca.pem beside it, is gone. Restore both"),
        ("ca.key", "", "are damaged, or do not belong together. Restore both"),
        ("ca.key", "other", "are damaged, or do not belong together. Restore both"),
        ("ca.pem", "", "are damaged, or do not belong together. Restore both"),
    ],
)
def test_a_damaged_authority_is_no_reason_for_another(tmp_path: Path, name: str, text: str | None, said: str) -> None:
    served(tmp_path)
    file = tmp_path / name
    file.unlink() if text is None else file.write_text(make_authority(now()).key if text == "other" else text)
    with pytest.raises(FleetError, match=said):
        served(tmp_path)


def test_an_authority_near_its_end_is_told_of_and_one_at_its_end_refused(tmp_path: Path) -> None:
    served(tmp_path, AT)
    late = served(tmp_path, AT + 3640 * DAY)
    assert late.warnings[0].startswith(
        f"The own authority, {tmp_path}/ca.pem, ends on 2036-11-23. Remove ca.pem and ca.key"
    )
    assert served(tmp_path, AT + 3641 * DAY).made is None
    with pytest.raises(FleetError, match="ended on 2036-11-23"):
        served(tmp_path, AT + 3651 * DAY)


def test_a_key_that_others_could_read_is_made_private_and_told_of(tmp_path: Path) -> None:
    served(tmp_path)
    (tmp_path / "ca.key").chmod(0o640)
    (tmp_path / "certificates" / "gpu-1.pem").chmod(0o604)
    warnings = served(tmp_path).warnings
    assert [warning.partition(" could be read by others")[0] for warning in warnings] == [
        f"{tmp_path}/ca.key",
        f"{tmp_path}/certificates/gpu-1.pem",
    ]
    assert {(tmp_path / name).stat().st_mode & 0o777 for name in ("ca.key", "certificates/gpu-1.pem")} == {0o600}
    assert served(tmp_path).warnings == ()


def make(arguments: tuple[Path, str]) -> str:
    return str(served(arguments[0], host=arguments[1]).ca)


def test_runs_at_once_agree_on_one_authority(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(make, [(tmp_path, f"gpu-{number % 2}") for number in range(8)]))) == 1


@pytest.mark.parametrize("name", ["", "a b", "https://gpu-1", "gpu-1:8443", "-x", "a..b", "x" * 64])
def test_what_cannot_stand_in_a_certificate_is_named(name: str) -> None:
    with pytest.raises(FleetError, match="Correct gateway_address or gateway_names"):
        general_names([name])


def test_names_outside_ascii_and_wildcards_are_taken() -> None:
    values = [str(name.value) for name in general_names(["bücher.example", "*.example.com", "gpu_1", "::1"])]
    assert values == ["xn--bcher-kva.example", "*.example.com", "gpu_1", "::1"]


def test_somebody_elses_certificate_is_returned_in_the_same_form() -> None:
    pair = issue(make_authority(AT), NAMES, AT)
    found = given(f"some text\n{pair.certificate}", pair.key, NAMES, "/c.pem", "/k.pem", AT)
    assert (found.pem, found.ca, found.ca_file, found.made) == (pair.certificate + pair.key, None, None, None)
    assert found.warnings == ()


@pytest.mark.parametrize(
    ("days", "names", "said"),
    [
        (370, NAMES, ["The certificate of CN=gpu-1.example.com in /c.pem ends on 2027-12-28."]),
        (0, ["gpu-9", NAMES[0]], ["does not name gpu-9; clients that use that name refuse it"]),
        (0, ["a.example.org", "b.a.example.org"], ["does not name b.a.example.org"]),
    ],
)
def test_what_will_hurt_is_warned_of(days: int, names: list[str], said: list[str]) -> None:
    pair = issue(make_authority(AT), [*NAMES, "*.example.org"], AT)
    warnings = given(pair.certificate, pair.key, names, "/c.pem", "/k.pem", AT + days * DAY).warnings
    assert len(warnings) == len(said)
    assert all(part in warning for part, warning in zip(said, warnings, strict=True))


def test_a_chain_in_the_wrong_order_is_warned_of() -> None:
    one, two = issue(make_authority(AT), NAMES, AT), issue(make_authority(AT), NAMES, AT)
    warnings = given(one.certificate + two.certificate, one.key, NAMES, "/c.pem", "/k.pem", AT).warnings
    assert warnings == ("The certificates in /c.pem are not in order: each must be followed by that of its issuer.",)


def with_passphrase(key: str) -> str:
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)
    encryption = serialization.BestAvailableEncryption(b"passphrase")
    return load_pem_private_key(key.encode(), None).private_bytes(*form, encryption).decode()


@pytest.mark.parametrize(
    ("days", "certificate", "key", "said"),
    [
        (0, "", None, "/c.pem holds no certificate in PEM form"),
        (0, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", None, "/c.pem is damaged"),
        (0, None, "", "/k.pem holds no private keys in PEM form, not one"),
        (0, None, "other", "The private key in /k.pem is not that of the first certificate in /c.pem"),
        (0, None, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "in /k.pem cannot be read"),
        (0, None, "passphrase", "has a passphrase, which nobody can type"),
        (398, None, None, "ended on 2027-12-28 11:00 UTC. Put a renewed one there"),
        (-2, None, None, "is valid from 2026-11-26 11:00 UTC only"),
    ],
)
def test_a_certificate_that_cannot_serve_is_refused(
    days: int, certificate: str | None, key: str | None, said: str
) -> None:
    pair, other = (issue(make_authority(AT), NAMES, AT) for _ in range(2))
    chosen = {None: pair.key, "other": other.key, "passphrase": with_passphrase(pair.key)}.get(key, key or "")
    with pytest.raises(FleetError, match=said):
        given(
            pair.certificate if certificate is None else certificate, chosen, NAMES, "/c.pem", "/k.pem", AT + days * DAY
        )


def test_a_signature_of_a_namesake_is_not_enough() -> None:
    """Two authorities could have the same name; only the signature counts."""
    one, two = make_authority(AT), make_authority(AT)
    assert reason_to_renew(issue(one, NAMES, AT), two, NAMES, AT)


@pytest.mark.parametrize("verb", ["read", "written"])
def test_a_directory_that_cannot_be_used_is_named(tmp_path: Path, verb: str) -> None:
    (tmp_path / "file").write_text("")
    directory = tmp_path / "file" / "x" if verb == "read" else Path("/sys/secrets")  # nobody makes one there
    with pytest.raises(FleetError, match=rf"^{directory}.* cannot be {verb}: .*gateway_secrets_directory"):
        served(directory)


def test_what_a_write_left_over_is_in_nobodys_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "keys" / "default"
    files.write(file, "former\n")

    def killed(*_arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", killed)
        with pytest.raises(KeyboardInterrupt):
            files.write(file, "new\n")
    assert file.read_text() == "former\n"
    files.write(file, "new\n")
    assert [path.name for path in file.parent.iterdir()] == ["default"]
    assert file.read_text() == "new\n"
