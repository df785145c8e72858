"""The revocation list of a federation: an X.509 CRL, signed by the CA, of keys that are not trusted any more.

Each entry has the serial number of a certificate, as in every CRL, and in an extension of this project the id
of its key: so it covers every certificate of that key, also one from before a renewal. Other programs can
read the list (`openssl crl -in ca.crl -text -noout`): the extension is not critical.

A list replaces another one only if its CRL number is higher, so an old list that is replayed changes nothing.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from p2pfl.errors import CredentialsError
from p2pfl.identity import authority
from p2pfl.identity.credentials import AUTHORITY_FILE, CERTIFICATE_FILE, issued_folders, read_certificate
from p2pfl.identity.keys import node_id_of, write_file
from p2pfl.identity.names import check_name
from p2pfl.paths import holds_file
from p2pfl.statements import MAX_CRL_BYTES

REVOCATIONS_FILE = "ca.crl"
"""The revocation list, in PEM form, in the CA's folder and in each device's."""

KEY_EXTENSION = x509.ObjectIdentifier("2.25.281434934857609136917463917436194731")
"""Extension of an entry: the node id of the revoked key, in ASCII. The OID is made of a UUID."""

LIFETIME = timedelta(days=3653)
"""A CRL must name a next update. Nodes ignore it: a list holds until a newer one comes."""


class Revocations(msgspec.Struct, frozen=True):
    """A revocation list whose signature was verified."""

    number: int = 0
    """The CRL number; 0 for no list."""
    serials: frozenset[int] = frozenset()
    """Serial numbers of revoked certificates."""
    keys: frozenset[str] = frozenset()
    """Ids of revoked keys; of a node it is the node id."""
    der: bytes = b""

    def covers(self, key: str, serial: int) -> bool:
        """Whether the certificate with the number *serial*, of the key *key*, is revoked."""
        return key in self.keys or serial in self.serials


def parse_revocations(der: bytes, authority_certificate: x509.Certificate) -> Revocations:
    """Return the list in *der*, which the CA of *authority_certificate* must have signed.

    Raises:
        ValueError: it is too long, no CRL, another CA's, or without a number; the message is half a sentence.
    """
    if len(der) > MAX_CRL_BYTES:
        raise ValueError(f"it has {len(der)} bytes, and the most is {MAX_CRL_BYTES}")
    try:
        found = x509.load_der_x509_crl(der)
        key = authority_certificate.public_key()
        is_ours = isinstance(key, ec.EllipticCurvePublicKey) and found.is_signature_valid(key)
        number = found.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number if is_ours else 0
        entries = [(one.serial_number, _key_of(one)) for one in found] if is_ours else []
    except (ValueError, TypeError, x509.ExtensionNotFound, x509.DuplicateExtension) as error:
        raise ValueError("it is no revocation list with a number") from error
    if not is_ours or found.issuer != authority_certificate.subject:
        raise ValueError("the CA of this federation has not signed it")
    if number < 1:
        raise ValueError("it has no number")
    keys = frozenset(key for _, key in entries if key)
    return Revocations(number, frozenset(serial for serial, _ in entries), keys, der)


def _key_of(entry: x509.RevokedCertificate) -> str:
    """Return the id of the revoked key in *entry*; empty where another program wrote it."""
    for extension in entry.extensions:
        value = extension.value
        if extension.oid == KEY_EXTENSION and isinstance(value, x509.UnrecognizedExtension):
            return value.value.decode("ascii", "replace")
    return ""


def read_revocations(directory: Path, authority_certificate: x509.Certificate) -> Revocations:
    """Return the revocation list in *directory*; the empty one if there is none.

    Raises:
        CredentialsError: it cannot be read, or the CA of *authority_certificate* has not signed it.
    """
    path = directory / REVOCATIONS_FILE
    if not holds_file(path):
        return Revocations()
    try:
        if path.stat().st_size > 2 * MAX_CRL_BYTES:
            raise ValueError(f"it is longer than {2 * MAX_CRL_BYTES} bytes")
        der = x509.load_pem_x509_crl(path.read_bytes()).public_bytes(Encoding.DER)
        return parse_revocations(der, authority_certificate)
    except OSError as error:
        raise CredentialsError(f"The revocation list {path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise CredentialsError(
            f"The revocation list {path} cannot be used: {error}. Copy {REVOCATIONS_FILE} again from the "
            "folder of the CA, or delete it: the other devices have it, too."
        ) from error


def save_revocations(directory: Path, revocations: Revocations) -> None:
    """Write *revocations* into *directory*, whole or not at all.

    Raises:
        CredentialsError: the file cannot be written.
    """
    pem = x509.load_der_x509_crl(revocations.der).public_bytes(Encoding.PEM)
    write_file(directory / REVOCATIONS_FILE, pem)


def newest_revocations(directory: Path) -> Revocations:
    """Return the newest list in the CA's folder *directory* and the devices' folders in it.

    So a list that was lost with one file is not begun anew.

    Raises:
        CredentialsError: one of them cannot be used.
    """
    folders = [directory, *issued_folders(directory)]
    certificate = read_certificate(directory / AUTHORITY_FILE)
    return max((read_revocations(one, certificate) for one in folders), key=lambda one: one.number)


def revoke(
    directory: Path, name: str, *, passphrase: bytes | None = None, now: datetime | None = None
) -> tuple[str, Revocations]:
    """Revoke the key of device *name* with the CA in *directory*, whose key *passphrase* decrypts.

    Return the id of the key, and the new list. It is written to the folders of the CA and of the devices in
    it.

    Raises:
        CredentialsError: no usable CA, no certificate of that name, or it is revoked already.
    """
    opened = authority.open_authority(directory, passphrase)
    key, certificate = opened.key, opened.certificate
    path = directory / check_name(name) / CERTIFICATE_FILE
    if not holds_file(path):
        known = ", ".join(folder.name for folder in issued_folders(directory)) or "none"
        raise CredentialsError(
            f"There is no certificate of {name!r} in {directory} (there are: {known}). Give the name that it "
            "was issued with; a node whose certificate is nowhere is kept out with `p2pfl ban`."
        )
    revoked = read_certificate(path)
    node, before = node_id_of(revoked.public_key()), newest_revocations(directory)
    if node in before.keys:
        raise CredentialsError(f"The certificate of {name!r} is revoked already, in list {before.number}.")
    now = now or datetime.now(UTC)
    # Above the time as well: a CA folder that was restored from a backup does not repeat a number.
    number = max(before.number + 1, int(time.time()))
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(certificate.subject)
        .last_update(now)
        .next_update(now + LIFETIME)
        .add_extension(x509.CRLNumber(number), critical=False)
        .add_extension(authority.authority_key_identifier(certificate), critical=False)
    )
    for entry in x509.load_der_x509_crl(before.der) if before.der else ():
        builder = builder.add_revoked_certificate(entry)
    builder = builder.add_revoked_certificate(
        x509.RevokedCertificateBuilder()
        .serial_number(revoked.serial_number)
        .revocation_date(now)
        .add_extension(x509.UnrecognizedExtension(KEY_EXTENSION, node.encode()), critical=False)
        .build()
    )
    der = builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)
    try:
        revocations = parse_revocations(der, certificate)
    except ValueError as error:
        raise CredentialsError(
            f"The revocation list is full: {error}. Make a new CA with `p2pfl certs init --force`, and issue "
            "every device that stays a new certificate."
        ) from error
    for folder in [directory, *issued_folders(directory)]:
        save_revocations(folder, revocations)
    return node, revocations
