"""The federation's certificate authority (CA): a key in a folder that signs the certificate of each device.

It is needed only to add a device or to renew its certificate: a node that may read it renews those of others
(`p2pfl.net.renewals`), all others run without it. Its certificates are narrow on purpose: one identity, no
host names, valid for both ends of a TLS connection and for nothing else. So they pass the strictest checks of
OpenSSL (`X509_V_FLAG_X509_STRICT`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from p2pfl.errors import CredentialsError
from p2pfl.identity.credentials import (
    AUTHORITY_FILE,
    CERTIFICATE_FILE,
    KEY_FILE,
    certificate_identity,
    check_signed,
    issued_folders,
    read_certificate,
)
from p2pfl.identity.keys import generate_key, node_id_of, read_key, short, write_file, write_key
from p2pfl.identity.lifetime import CLOCK_ALLOWANCE, Lifetime
from p2pfl.identity.names import (
    DEFAULT_FEDERATION,
    Role,
    authority_uri,
    check_name,
    device_uri,
    parse_authority_uri,
)
from p2pfl.identity.parent_authority import ParentAuthority
from p2pfl.identity.peer import certificate_uris
from p2pfl.paths import holds_file, is_there
from p2pfl.times import show_time

AUTHORITY_KEY_FILE = "ca.key"

DEVICE_LIFETIME = timedelta(days=365)
"""A leaked certificate that nobody revokes expires by itself. To renew one a year by hand is little work."""

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


@dataclass(frozen=True)
class Authority:
    """A CA whose key was read: it can sign."""

    directory: Path
    key: ec.EllipticCurvePrivateKey = field(repr=False)
    certificate: x509.Certificate
    federation: str


def open_authority(directory: Path, passphrase: bytes | None = None) -> Authority:
    """Read the CA in *directory*; *passphrase* decrypts its key, and is ignored if the key has none.

    Raises:
        PassphraseNeededError: the key has a passphrase, and none was given.
        CredentialsError: there is no CA, its key and certificate do not belong together, or the passphrase is
        wrong.
    """
    key_path, certificate_path = directory / AUTHORITY_KEY_FILE, directory / AUTHORITY_FILE
    if not holds_file(key_path) or not holds_file(certificate_path):
        raise CredentialsError(
            f"There is no CA in {directory}: it must hold {AUTHORITY_KEY_FILE} and {AUTHORITY_FILE}. Make "
            "one with `p2pfl certs init`, or name its folder with --certs."
        )
    key, certificate = read_key(key_path, passphrase), read_certificate(certificate_path)
    if certificate.public_key() != key.public_key():
        raise CredentialsError(
            f"{key_path} and {certificate_path} do not belong together. Restore both from one backup."
        )
    return Authority(directory, key, certificate, _federation_of(certificate, certificate_path))


def create_authority(
    directory: Path,
    federation: str = DEFAULT_FEDERATION,
    *,
    force: bool = False,
    days: float | None = None,
    passphrase: bytes | None = None,
    parent: ParentAuthority | None = None,
    now: datetime | None = None,
) -> None:
    """Make a CA for *federation* in *directory*: `ca.key`, to keep safe, and `ca.crt`, for every device.

    With *passphrase* the key is encrypted. With *parent* that CA signs `ca.crt`; its own key is not stored.

    Raises:
        CredentialsError: a bad name, a folder that cannot be written, *parent* does not allow it, or a CA is
        there already and *force* is off.
    """
    check_name(federation, "federation")
    key_path, certificate_path = directory / AUTHORITY_KEY_FILE, directory / AUTHORITY_FILE
    check_no_authority(directory, force=force)
    now = now or datetime.now(UTC)
    if parent is not None:
        parent.check(federation, now)
    key = generate_key()
    # The key's digest in the name distinguishes two federations of one name, in error messages and in
    # OpenSSL's search for the issuer.
    subject = _distinguished_name(federation, f"{federation} CA {short(node_id_of(key.public_key()))}")
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    issuer, signer = (subject, key) if parent is None else (parent.certificate.subject, parent.key)
    dates = _within(parent.certificate if parent is not None else None, now, days, AUTHORITY_LIFETIME)
    signed_by = identifier if parent is None else parent.identifier
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(dates.not_before)
        .not_valid_after(dates.not_after)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(authority=True), critical=True)
        .add_extension(identifier, critical=False)
        .add_extension(_issuer_identifier(signed_by), critical=False)
        .add_extension(_uri(authority_uri(federation)), critical=False)
        .sign(signer, parent.hash if parent is not None else hashes.SHA256())
    )
    make_private_folder(directory)
    write_key(key_path, key, passphrase)
    write_file(certificate_path, certificate.public_bytes(Encoding.PEM))


def adopt_authority(
    directory: Path,
    existing: ParentAuthority,
    *,
    force: bool = False,
    passphrase: bytes | None = None,
    now: datetime | None = None,
) -> str:
    """Store *existing*, whose certificate names a federation, as the CA in *directory*; return that name.

    Raises:
        CredentialsError: a folder that cannot be written, a certificate or key that devices would not accept,
        or a CA is there already and *force* is off.
    """
    check_no_authority(directory, force=force)
    federation = _federation_of(existing.certificate, existing.path)
    existing.check_usable(federation, now or datetime.now(UTC))
    key = existing.federation_key()
    make_private_folder(directory)
    write_key(directory / AUTHORITY_KEY_FILE, key, passphrase)
    write_file(directory / AUTHORITY_FILE, existing.certificate.public_bytes(Encoding.PEM))
    return federation


def check_no_authority(directory: Path, *, force: bool) -> None:
    """Refuse to replace a CA in *directory* unless *force* is on.

    Raises:
        CredentialsError: there is one, or a part of one.
    """
    if not force and any(is_there(directory / name) for name in (AUTHORITY_KEY_FILE, AUTHORITY_FILE)):
        raise CredentialsError(
            f"{directory} holds a CA already. Use it, choose another folder with --certs, or replace it with "
            "--force: then every device needs a new certificate."
        )


def issue(
    directory: Path,
    name: str,
    role: Role = "node",
    *,
    force: bool = False,
    days: float | None = None,
    passphrase: bytes | None = None,
    now: datetime | None = None,
) -> Path:
    """Make a key and a certificate for device *name* with the CA in *directory*, and return their folder.

    The folder `directory/name` is all the device needs; the CA's key is not in it. The certificate is valid
    for *days*, by default a year.

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
    authority, key = open_authority(directory, passphrase), generate_key()
    certificate = sign(authority, key.public_key(), name, role, days, now)
    make_private_folder(folder)
    write_key(folder / KEY_FILE, key)
    write_certificates(folder, certificate, authority.certificate)
    return folder


def renew(
    directory: Path,
    name: str,
    *,
    days: float | None = None,
    passphrase: bytes | None = None,
    now: datetime | None = None,
) -> Path:
    """Make a new certificate for the existing key of device *name*, and return their folder in *directory*.

    Key, role and node id stay, and so does the length of its life unless *days* says another one. The
    device's key need not be there. A device whose folder was copied takes the new `node.crt`.

    Raises:
        CredentialsError: no usable CA, or no certificate of that name beside it.
    """
    folder = directory / check_name(name)
    if not holds_file(folder / CERTIFICATE_FILE):
        raise CredentialsError(
            f"{folder} holds no certificate to renew: run `p2pfl certs issue {name}` first."
        )
    authority = open_authority(directory, passphrase)
    write_certificates(
        folder,
        renewed(authority, read_certificate(folder / CERTIFICATE_FILE), days, now),
        authority.certificate,
    )
    return folder


def renewed(
    authority: Authority,
    certificate: x509.Certificate,
    days: float | None = None,
    now: datetime | None = None,
) -> x509.Certificate:
    """Return *certificate* with new dates: same key, name, role, and length of life unless *days* is given.

    Raises:
        CredentialsError: *certificate* was not signed by this CA, or the CA is not valid now.
    """
    check_signed(certificate, authority.certificate)
    _, role, name = certificate_identity(certificate, Path(CERTIFICATE_FILE))
    if days is None:
        old = Lifetime(certificate.not_valid_before_utc, certificate.not_valid_after_utc)
        days = old.length / timedelta(days=1)
    return sign(authority, certificate.public_key(), name, role, days, now)


def sign_request(
    authority: Authority,
    request: x509.CertificateSigningRequest,
    name: str,
    role: Role = "node",
    days: float | None = None,
    now: datetime | None = None,
) -> x509.Certificate:
    """Return a certificate for the key of *request*; name, role and dates are the CA's decision.

    Raises:
        CredentialsError: the request is not signed by its own key, the key is of another kind, a bad name, or
        the CA is not valid now.
    """
    try:
        is_signed = request.is_signature_valid
    except (ValueError, TypeError, UnsupportedAlgorithm):
        is_signed = False
    if not is_signed:
        raise CredentialsError(
            "The signing request is not signed by the key in it: it was damaged or changed on its way. Make "
            "it again with `p2pfl certs request`."
        )
    return sign(authority, request.public_key(), name, role, days, now)


def sign(
    authority: Authority,
    key: CertificatePublicKeyTypes,
    name: str,
    role: Role,
    days: float | None = None,
    now: datetime | None = None,
) -> x509.Certificate:
    """Return a certificate of device *name* with *role* for the public *key*, valid for *days* from *now*.

    Raises:
        CredentialsError: a bad name, a key of another kind than ECDSA on P-256, or the CA is not valid now.
    """
    check_name(name)
    now = now or datetime.now(UTC)
    _check_authority_dates(authority, now)
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise CredentialsError(
            f"The key of {name} is not ECDSA on P-256, the only kind used here. Make the request with `p2pfl "
            "certs request`."
        )
    # Never outside the CA's own dates: OpenSSL refuses a chain in which any certificate is out of date.
    dates = _within(authority.certificate, now, days, DEVICE_LIFETIME)
    authority_identifier = authority.certificate.extensions.get_extension_for_class(
        x509.SubjectKeyIdentifier
    ).value
    return (
        x509.CertificateBuilder()
        .subject_name(_distinguished_name(authority.federation, name))
        .issuer_name(authority.certificate.subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(dates.not_before)
        .not_valid_after(dates.not_after)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(authority=False), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
            critical=False,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(_issuer_identifier(authority_identifier), critical=False)
        .add_extension(_uri(device_uri(authority.federation, role, name)), critical=False)
        .sign(authority.key, hashes.SHA256())
    )


def write_certificates(folder: Path, certificate: x509.Certificate, authority: x509.Certificate) -> None:
    """Write a device's *certificate*, and that of its CA, to *folder*, each durably and all or nothing.

    Raises:
        CredentialsError: they cannot be written.
    """
    # The CA's first: a crash in between leaves an old certificate beside a CA that signed it, too.
    write_file(folder / AUTHORITY_FILE, authority.public_bytes(Encoding.PEM))
    write_file(folder / CERTIFICATE_FILE, certificate.public_bytes(Encoding.PEM))


def authority_key_identifier(authority: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    """Return the extension by which what the CA signs names the CA's key."""
    return _issuer_identifier(authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value)


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


def _federation_of(certificate: x509.Certificate, path: Path) -> str:
    """Return the federation named in a CA's certificate, read from *path*."""
    uris = certificate_uris(certificate)
    federation = parse_authority_uri(uris[0]) if len(uris) == 1 else None
    if federation is None:
        raise CredentialsError(f"{path} is no CA made by `p2pfl certs init`: make one with that command.")
    return federation


def _check_authority_dates(authority: Authority, now: datetime) -> None:
    """Refuse to sign with a CA that is not valid at *now*."""
    certificate, directory = authority.certificate, authority.directory
    if now > certificate.not_valid_after_utc:
        raise CredentialsError(
            f"The CA in {directory} expired on {show_time(certificate.not_valid_after_utc)}. Make a new one "
            "with `p2pfl certs init --force`; every device then needs a new certificate."
        )
    if now < certificate.not_valid_before_utc:
        raise CredentialsError(
            f"This machine's clock shows {show_time(now)}, but the CA in {directory} is valid only from "
            f"{show_time(certificate.not_valid_before_utc)}. Set the clock right and try again."
        )


def _within(issuer: x509.Certificate | None, now: datetime, days: float | None, usual: timedelta) -> Lifetime:
    """Return dates of *days* from *now* (None: *usual*), cut to those of the *issuer*."""
    begin, end = now - CLOCK_ALLOWANCE, now + (timedelta(days=days) if days is not None else usual)
    if issuer is None:
        return Lifetime(begin, end)
    return Lifetime(max(begin, issuer.not_valid_before_utc), min(end, issuer.not_valid_after_utc))


def make_private_folder(folder: Path) -> None:
    """Make *folder*, readable by this user only; do nothing if it exists.

    Raises:
        CredentialsError: it cannot be made.
    """
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


def _issuer_identifier(identifier: x509.SubjectKeyIdentifier) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)


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
