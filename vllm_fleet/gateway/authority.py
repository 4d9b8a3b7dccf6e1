"""An own certificate authority, what it signs for a gateway, and what can be seen of a certificate. No files."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from vllm_fleet.errors import FleetError

CA_LIFE = timedelta(days=3650)
SERVER_LIFE = timedelta(days=397)  # browsers and Apple's clients accept no more
RENEWAL = timedelta(days=60)
SKEW = timedelta(hours=1)  # clients whose clocks are slow
USES = (
    *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
    *("key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
)
DNS_NAME = re.compile(r"(\*\.)?[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*\.?")


@dataclass(frozen=True)
class Pair:
    """A certificate, followed by those that lead from it to an authority, and its private key; both PEM."""

    certificate: str
    key: str

    @property
    def first(self) -> x509.Certificate:
        """The certificate itself."""
        return x509.load_pem_x509_certificate(self.certificate.encode())


def now() -> datetime:
    """Return the time in whole seconds, as certificates state it."""
    return datetime.now(UTC).replace(microsecond=0)


def general_names(names: Sequence[str]) -> list[x509.GeneralName]:
    """Return names of hosts and IP addresses as a certificate states them, each once.

    Raises:
        FleetError: one of them is neither.
    """
    found: dict[x509.GeneralName, None] = {}
    for name in names:
        text = name.strip().strip("[]")
        try:
            found[x509.IPAddress(ipaddress.ip_address(text))] = None
            continue
        except ValueError:
            pass
        try:
            ascii_name = text.encode("ascii" if text.isascii() else "idna").decode().lower()
        except UnicodeError:
            ascii_name = ""
        if len(ascii_name) > 253 or not DNS_NAME.fullmatch(ascii_name):
            raise FleetError(
                f"A certificate cannot name {name!r}: it is neither an IP address nor a host's name. "
                "Correct gateway_address or gateway_names."
            )
        found[x509.DNSName(ascii_name.rstrip("."))] = None
    return list(found)


def make_authority(at: datetime) -> Pair:
    """Return a new authority, which may sign certificates of servers and no further authorities."""
    key = ec.generate_private_key(ec.SECP256R1())
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    # A client that holds two of these must be able to tell them apart by name.
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"vllm-fleet CA {identifier.digest.hex()[:8]}")])
    builder = _builder(name, name, key.public_key(), at, at - SKEW + CA_LIFE)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage("key_cert_sign", "crl_sign"), critical=True)
    return _signed(builder, key, key, "")


def issue(authority: Pair, names: Sequence[str], at: datetime) -> Pair:
    """Return a new certificate of a server for these names, followed by the authority's.

    Raises:
        FleetError: a name cannot stand in a certificate.
    """
    subjects = general_names(names)
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = authority.first
    common = str(subjects[0].value)[:64]
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])
    until = min(at - SKEW + SERVER_LIFE, issuer.not_valid_after_utc)
    builder = _builder(name, issuer.subject, key.public_key(), at, until)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_usage("digital_signature"), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    builder = builder.add_extension(x509.SubjectAlternativeName(subjects), critical=False)
    signer = serialization.load_pem_private_key(authority.key.encode(), None)
    return _signed(builder, key, signer, authority.certificate)  # type: ignore[arg-type] # our own is EC


def reason_to_renew(pair: Pair, authority: Pair, names: Sequence[str], at: datetime) -> str | None:
    """Return why a server's certificate of `issue` has to be made anew, None where it has not."""
    try:
        certificate = pair.first
        stated = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        certificate.verify_directly_issued_by(authority.first)
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
        return "it is damaged, or another authority signed it"
    if not key_fits(pair) or authority.certificate not in pair.certificate:
        return "it is damaged"
    if set(stated) != set(general_names(names)):
        return "the names changed"
    if certificate.not_valid_before_utc > at:
        return "it is not valid yet"
    # Near the end of the authority's own life a new one would end no later.
    if (
        certificate.not_valid_after_utc - at < RENEWAL
        and certificate.not_valid_after_utc < authority.first.not_valid_after_utc
    ):
        return f"it ends on {certificate.not_valid_after_utc:%Y-%m-%d}"
    return None


def key_fits(pair: Pair) -> bool:
    """Whether the private key is that of the first certificate.

    Raises:
        ValueError, TypeError: one of them cannot be read, or the key has a passphrase.
    """
    key = serialization.load_pem_private_key(pair.key.encode(), None)
    return _public(key.public_key()) == _public(pair.first.public_key())


def uncovered(certificate: x509.Certificate, names: Sequence[str]) -> list[str]:
    """Return which of the names a certificate does not state, by itself or by a wildcard."""
    try:
        stated = set(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        stated = set()
    missing = []
    for name in general_names(names):
        wildcard = x509.DNSName("*." + name.value.partition(".")[2]) if isinstance(name, x509.DNSName) else name
        if not stated & {name, wildcard}:
            missing.append(str(name.value))
    return missing


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, at: datetime, until: datetime
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(at - SKEW).not_valid_after(until)
    return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)


def _usage(*wanted: str) -> x509.KeyUsage:
    return x509.KeyUsage(**{use: use in wanted for use in USES})


def _signed(
    builder: x509.CertificateBuilder,
    key: ec.EllipticCurvePrivateKey,
    signer: CertificateIssuerPrivateKeyTypes,
    chain: str,
) -> Pair:
    # Python from 3.13 on refuses a server's certificate without it.
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    certificate = builder.add_extension(identifier, critical=False).sign(signer, hashes.SHA256())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Pair(certificate.public_bytes(serialization.Encoding.PEM).decode() + chain, private.decode())


def _public(key: object) -> bytes:
    encoded: bytes = key.public_bytes(  # type: ignore[attr-defined] # every kind of public key has it
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return encoded
