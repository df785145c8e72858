"""The federation's certificate authority (CA): a key in a folder that signs the certificate of each device.

It is needed only to add a device or to renew its certificate. Nodes run without it and never see its key. Its
certificates are narrow on purpose: one identity, no host names, valid for both ends of a TLS connection and
for nothing else. So they pass the strictest checks of OpenSSL (`X509_V_FLAG_X509_STRICT`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from p2pfl.errors import CredentialsError
from p2pfl.identity.credentials import (
    AUTHORITY_FILE,
    CERTIFICATE_FILE,
    KEY_FILE,
    certificate_identity,
    issued_folders,
    read_certificate,
    show_time,
)
from p2pfl.identity.keys import generate_key, node_id_of, read_key, short, write_file, write_key
from p2pfl.identity.names import (
    DEFAULT_FEDERATION,
    Role,
    authority_uri,
    check_name,
    device_uri,
    parse_authority_uri,
)
from p2pfl.identity.peer import certificate_uris

AUTHORITY_KEY_FILE = "ca.key"

CLOCK_ALLOWANCE = timedelta(days=1)
"""Certificates are valid from this long before their creation: a small device without a battery may boot with
yesterday's clock."""

DEVICE_LIFETIME = timedelta(days=365)
"""A leaked certificate that nobody revokes expires by itself. To renew one a year is little work."""

AUTHORITY_LIFETIME = timedelta(days=3653)
"""Ten years: to replace the CA, every device must get a new certificate."""


@dataclass(frozen=True)
class IssuedCertificate:
    """A device's certificate, as `list_certificates` returns it."""

    name: str
    role: Role
    federation: str
    node_id: str
    not_before: datetime
    not_after: datetime
    directory: Path


@dataclass(frozen=True)
class Federation:
    """A federation, as its CA's certificate describes it."""

    name: str
    not_before: datetime
    not_after: datetime


def create_authority(
    directory: Path, federation: str = DEFAULT_FEDERATION, *, force: bool = False, now: datetime | None = None
) -> None:
    """Make a CA for *federation* in *directory*: `ca.key`, to keep safe, and `ca.crt`, for every device.

    Raises:
        CredentialsError: a bad name, a folder that cannot be written, or a CA is there already and *force* is
        off.
    """
    check_name(federation, "federation")
    key_path, certificate_path = directory / AUTHORITY_KEY_FILE, directory / AUTHORITY_FILE
    if not force and (key_path.exists() or certificate_path.exists()):
        raise CredentialsError(
            f"{directory} holds a CA already. Use it, choose another folder with --certs, or replace it with "
            "--force: then every device needs a new certificate."
        )
    now = now or datetime.now(UTC)
    key = generate_key()
    # The key's digest in the name distinguishes two federations of one name, in error messages and in
    # OpenSSL's search for the issuer.
    subject = _distinguished_name(federation, f"{federation} CA {short(node_id_of(key.public_key()))}")
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_ALLOWANCE)
        .not_valid_after(now + AUTHORITY_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(authority=True), critical=True)
        .add_extension(identifier, critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False
        )
        .add_extension(_uri(authority_uri(federation)), critical=False)
        .sign(key, hashes.SHA256())
    )
    _make_folder(directory)
    write_key(key_path, key)
    write_file(certificate_path, certificate.public_bytes(Encoding.PEM))


def issue(
    directory: Path, name: str, role: Role = "node", *, force: bool = False, now: datetime | None = None
) -> Path:
    """Make a key and a certificate for device *name* with the CA in *directory*, and return their folder.

    The folder `directory/name` is all the device needs; the CA's key is not in it.

    Raises:
        CredentialsError: a bad name, no usable CA, or the name has a certificate already and *force* is off.
    """
    check_name(name)
    folder = directory / name
    if not force and folder.exists():
        raise CredentialsError(
            f"{folder} exists already: {name} has a certificate. Renew it with --renew (the device stays the "
            "same node), or replace key and certificate with --force (the device becomes a new node)."
        )
    return _issue(directory, name, role, generate_key(), now or datetime.now(UTC))


def renew(directory: Path, name: str, *, now: datetime | None = None) -> Path:
    """Make a new certificate for the existing key of device *name*, and return their folder in *directory*.

    Role and node id stay. A device whose folder was copied takes the new `node.crt`.

    Raises:
        CredentialsError: no usable CA, or no key and certificate of that name beside it.
    """
    folder = directory / check_name(name)
    if not (folder / KEY_FILE).is_file() or not (folder / CERTIFICATE_FILE).is_file():
        raise CredentialsError(
            f"{folder} holds no key and certificate to renew: run `p2pfl certs issue {name}` first."
        )
    key = read_key(folder / KEY_FILE)
    _, role, _ = certificate_identity(read_certificate(folder / CERTIFICATE_FILE), folder / CERTIFICATE_FILE)
    return _issue(directory, name, role, key, now or datetime.now(UTC))


def read_federation(directory: Path) -> Federation | None:
    """Return the federation whose CA's certificate is in *directory*; None where there is none.

    Raises:
        CredentialsError: it cannot be read, or is no CA's.
    """
    path = directory / AUTHORITY_FILE
    if not path.is_file():
        return None
    certificate = read_certificate(path)
    return Federation(
        _federation_of(certificate, path), certificate.not_valid_before_utc, certificate.not_valid_after_utc
    )


def list_certificates(directory: Path) -> list[IssuedCertificate]:
    """Return the certificates in *directory*, which is a device's folder or the CA's; by name.

    Raises:
        CredentialsError: one of them cannot be read.
    """
    folders = [directory] if (directory / CERTIFICATE_FILE).is_file() else issued_folders(directory)
    listed = []
    for folder in folders:
        path = folder / CERTIFICATE_FILE
        certificate = read_certificate(path)
        federation, role, name = certificate_identity(certificate, path)
        listed.append(
            IssuedCertificate(
                name=name,
                role=role,
                federation=federation,
                node_id=node_id_of(certificate.public_key()),
                not_before=certificate.not_valid_before_utc,
                not_after=certificate.not_valid_after_utc,
                directory=folder,
            )
        )
    return listed


def _issue(directory: Path, name: str, role: Role, key: ec.EllipticCurvePrivateKey, now: datetime) -> Path:
    """Sign a certificate for *key* and write the device's folder."""
    authority_key, authority, federation = read_authority(directory)
    _check_authority_dates(directory, authority, now)
    # Never outside the CA's own dates: OpenSSL refuses a chain in which any certificate is out of date.
    not_before = max(now - CLOCK_ALLOWANCE, authority.not_valid_before_utc)
    not_after = min(now + DEVICE_LIFETIME, authority.not_valid_after_utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(_distinguished_name(federation, name))
        .issuer_name(authority.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_after)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(authority=False), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
            critical=False,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(authority_key_identifier(authority), critical=False)
        .add_extension(_uri(device_uri(federation, role, name)), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    folder = directory / name
    _make_folder(folder)
    write_key(folder / KEY_FILE, key)
    write_file(folder / CERTIFICATE_FILE, certificate.public_bytes(Encoding.PEM))
    write_file(folder / AUTHORITY_FILE, authority.public_bytes(Encoding.PEM))
    return folder


def read_authority(directory: Path) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate, str]:
    """Read the CA in *directory*: its key, its certificate, its federation.

    Raises:
        CredentialsError: there is none, it cannot be read, or its files do not belong together.
    """
    key_path, certificate_path = directory / AUTHORITY_KEY_FILE, directory / AUTHORITY_FILE
    if not key_path.is_file() or not certificate_path.is_file():
        raise CredentialsError(
            f"There is no CA in {directory}: it must hold {AUTHORITY_KEY_FILE} and {AUTHORITY_FILE}. Make "
            "one with `p2pfl certs init`, or name its folder with --certs."
        )
    key, certificate = read_key(key_path), read_certificate(certificate_path)
    if certificate.public_key() != key.public_key():
        raise CredentialsError(
            f"{key_path} and {certificate_path} do not belong together. Restore both from one backup."
        )
    return key, certificate, _federation_of(certificate, certificate_path)


def authority_key_identifier(authority: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    """Return the extension by which what the CA signs names the CA's key."""
    identifier = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)


def _federation_of(certificate: x509.Certificate, path: Path) -> str:
    """Return the federation named in a CA's certificate, read from *path*."""
    uris = certificate_uris(certificate)
    federation = parse_authority_uri(uris[0]) if len(uris) == 1 else None
    if federation is None:
        raise CredentialsError(f"{path} is no CA made by `p2pfl certs init`: make one with that command.")
    return federation


def _check_authority_dates(directory: Path, authority: x509.Certificate, now: datetime) -> None:
    """Refuse to sign with a CA that is not valid at *now*."""
    if now > authority.not_valid_after_utc:
        raise CredentialsError(
            f"The CA in {directory} expired on {show_time(authority.not_valid_after_utc)}. Make a new one "
            "with `p2pfl certs init --force`; every device then needs a new certificate."
        )
    if now < authority.not_valid_before_utc:
        raise CredentialsError(
            f"This machine's clock shows {show_time(now)}, but the CA in {directory} is valid only from "
            f"{show_time(authority.not_valid_before_utc)}. Set the clock right and try again."
        )


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise CredentialsError(f"The folder {folder} cannot be made: {error.strerror}.") from error


def _distinguished_name(federation: str, common_name: str) -> x509.Name:
    """Return the holder's name for people, cut to the 64 characters of X.509; the URI has the full name."""
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, federation[:64]),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name[-64:]),
        ]
    )


def _uri(uri: str) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)])


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    """Let a CA sign certificates, and a device sign handshakes."""
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )
