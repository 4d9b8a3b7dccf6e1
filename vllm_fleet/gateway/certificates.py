"""The certificate of a gateway: made here and kept on the controller, or somebody else's and checked."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from vllm_fleet.errors import FleetError
from vllm_fleet.gateway import files
from vllm_fleet.gateway.authority import (
    SERVER_LIFE,
    Pair,
    issue,
    key_fits,
    make_authority,
    now,
    reason_to_renew,
    uncovered,
)
from vllm_fleet.gateway.files import CA_FILE

CA_KEY_FILE = "ca.key"
WARN = timedelta(days=30)
BLOCK = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----\n?", re.DOTALL)
CERTIFICATE = ("CERTIFICATE", "X509 CERTIFICATE", "TRUSTED CERTIFICATE")


@dataclass(frozen=True)
class Served:
    """What a gateway is given: certificate, chain and private key as one PEM, as HAProxy wants it.

    ``ca`` is the certificate of the own authority and ``ca_file`` where it lies, None for somebody else's;
    ``made`` says why a new one was made, None where none was.
    """

    pem: str
    ca: str | None
    ca_file: Path | None
    made: str | None
    warnings: tuple[str, ...]


def own(
    directory: Path,
    host: str,
    names: Sequence[str],
    elsewhere: bool = False,
    dry: bool = False,
    at: datetime | None = None,
) -> Served | None:
    """Return a gateway's certificate of the own authority, or None where another controller made both.

    What is missing is made.

    Args:
        directory: of the secrets.
        host: the gateway's name in the inventory, which its certificate is kept by.
        names: what it states: names of hosts and IP addresses.
        elsewhere: whether the gateway has a certificate of an own authority already. Where no authority is kept here,
            another controller made it, and clients would not accept that of a new one.
        dry: write nothing.
        at: the time, if not now.

    Raises:
        FleetError: a file cannot be read or written, or the authority is damaged or at its end; a name cannot stand
            in a certificate.
    """
    at = at or now()
    if elsewhere and files.read(directory / CA_FILE) is None and files.read(directory / CA_KEY_FILE) is None:
        return None
    private = [directory / CA_KEY_FILE, _file_of(directory, host)]
    loose = [files.made_private(file, repair=not dry) for file in private]
    found = _own(directory, host, names, at, write=False)
    if found.made and not dry:
        with files.locked(directory):
            found = _own(directory, host, names, at, write=True)
    return replace(found, warnings=(*(warning for warning in loose if warning), *found.warnings))


def _file_of(directory: Path, host: str) -> Path:
    return directory / "certificates" / f"{host.replace('/', '_')}.pem"


def _own(directory: Path, host: str, names: Sequence[str], at: datetime, write: bool) -> Served:
    """Read what is there and make what is not."""
    authority = read_authority(directory)
    if authority is None:
        authority = make_authority(at)
        if write:
            _write_authority(directory, authority)
    ends = authority.first.not_valid_after_utc
    if ends <= at:
        raise FleetError(f"The own authority, {directory / CA_FILE}, ended on {ends:%Y-%m-%d}. {_another(directory)}")
    file = _file_of(directory, host)
    known = files.read(file)
    pair = split(known or "")
    made = (
        reason_to_renew(pair, authority, names, at) if pair else "there was none" if known is None else "it is damaged"
    )
    if made or pair is None:
        pair = issue(authority, names, at)
        if write:
            files.write(file, pair.certificate + pair.key)
    late = f"The own authority, {directory / CA_FILE}, ends on {ends:%Y-%m-%d}. {_another(directory)}"
    return Served(
        pair.certificate + pair.key,
        authority.certificate,
        directory / CA_FILE,
        made,
        (late,) if ends - at < SERVER_LIFE else (),
    )


def _another(directory: Path) -> str:
    """Return how to get another authority, in words."""
    return (
        f"Remove {CA_FILE} and {CA_KEY_FILE} there, run: scripts/gateway-keys --directory {directory} create-ca, "
        f"then playbooks/gateway.yml, and give clients the new {CA_FILE}."
    )


def create_authority(directory: Path, at: datetime | None = None) -> Path:
    """Make an authority where none is kept, whatever a gateway has a certificate of. Returns its certificate's file.

    Raises:
        FleetError: one is kept here already, or cannot be written.
    """
    with files.locked(directory):
        if read_authority(directory):
            raise FleetError(
                f"An authority is kept in {directory} already. For another, remove {CA_FILE} and {CA_KEY_FILE} first."
            )
        _write_authority(directory, make_authority(at or now()))
    return directory / CA_FILE


def _write_authority(directory: Path, authority: Pair) -> None:
    # The key first: to `read_authority` a certificate without a key is damage, a key alone is nothing.
    files.write(directory / CA_KEY_FILE, authority.key)
    files.write(directory / CA_FILE, authority.certificate)


def read_authority(directory: Path) -> Pair | None:
    """Return the own authority, None where there is none, or where its making was cut short.

    Raises:
        FleetError: it cannot be read, or is damaged.
    """
    certificate, key = (files.read(directory / name) for name in (CA_FILE, CA_KEY_FILE))
    if certificate is None:
        return None
    restore = f"Restore both from a backup. Without one: {_another(directory)}"
    if key is None:
        raise FleetError(f"{directory / CA_KEY_FILE}, the private key of {CA_FILE} beside it, is gone. {restore}")
    pair = Pair(certificate, key)
    try:
        fits = key_fits(pair)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        fits = False
    if not fits:
        raise FleetError(
            f"{directory / CA_FILE} and {CA_KEY_FILE} beside it are damaged, or do not belong together. {restore}"
        )
    return pair


def given(
    certificate: str, key: str, names: Sequence[str], source: str, key_source: str, at: datetime | None = None
) -> Served:
    """Return somebody else's certificate after a check.

    Args:
        certificate: the certificate and those that lead to its authority, PEM.
        key: its private key, PEM.
        names: what clients type; what of them it does not state is warned of.
        source: where the certificate was read from.
        key_source: where the key was read from.
        at: the time, if not now.

    Raises:
        FleetError: it cannot be used.
    """
    at = at or now()
    blocks = [match[0].rstrip() + "\n" for match in BLOCK.finditer(certificate) if match[1] in CERTIFICATE]
    keys = [match[0].rstrip() + "\n" for match in BLOCK.finditer(key) if match[1].endswith("PRIVATE KEY")]
    if not blocks:
        raise FleetError(f"{source} holds no certificate in PEM form (BEGIN CERTIFICATE).")
    if len(keys) != 1:
        raise FleetError(f"{key_source} holds {len(keys) or 'no'} private keys in PEM form, not one.")
    pair = Pair("".join(blocks), keys[0])
    try:
        chain = [x509.load_pem_x509_certificate(block.encode()) for block in blocks]
    except ValueError as error:
        raise FleetError(f"{source} is damaged: {error}.") from None
    try:
        fits = key_fits(pair)
    except TypeError:
        raise FleetError(
            f"The private key in {key_source} has a passphrase, which nobody can type when HAProxy starts. Give one "
            "without; the file may be encrypted by Ansible Vault instead."
        ) from None
    except (ValueError, UnsupportedAlgorithm) as error:
        raise FleetError(f"The private key in {key_source} cannot be read: {error}.") from None
    if not fits:
        raise FleetError(
            f"The private key in {key_source} is not that of the first certificate in {source} "
            f"({chain[0].subject.rfc4514_string()}). The server's own certificate comes first, then those of the chain."
        )
    ends = chain[0].not_valid_after_utc
    if ends <= at:
        raise FleetError(f"The certificate in {source} ended on {ends:%Y-%m-%d %H:%M} UTC. Put a renewed one there.")
    if chain[0].not_valid_before_utc > at:
        raise FleetError(
            f"The certificate in {source} is valid from {chain[0].not_valid_before_utc:%Y-%m-%d %H:%M} UTC only."
        )
    return Served(pair.certificate + pair.key, None, None, None, tuple(_warnings(chain, names, source, at)))


def _warnings(chain: Sequence[x509.Certificate], names: Sequence[str], source: str, at: datetime) -> list[str]:
    found = []
    for certificate in chain:
        ends = certificate.not_valid_after_utc
        if ends - at < WARN:
            found.append(
                f"The certificate of {certificate.subject.rfc4514_string()} in {source} ends on {ends:%Y-%m-%d}."
            )
    missing = uncovered(chain[0], names)
    if missing:
        found.append(
            f"The certificate in {source} does not name {', '.join(missing)}; clients that use that name refuse it."
        )
    if any(one.issuer != next_.subject for one, next_ in pairwise(chain)):
        found.append(f"The certificates in {source} are not in order: each must be followed by that of its issuer.")
    return found


def split(pem: str) -> Pair | None:
    """Return a file of certificates and one private key, None where it is no such file."""
    blocks = [(match[1], match[0]) for match in BLOCK.finditer(pem)]
    certificates = "".join(text for kind, text in blocks if kind == "CERTIFICATE")
    keys = [text for kind, text in blocks if kind == "PRIVATE KEY"]
    return Pair(certificates, keys[0]) if certificates and len(keys) == 1 else None
