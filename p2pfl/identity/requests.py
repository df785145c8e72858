"""Signing requests: a device makes its key itself, and the CA gets only the public part.

The device writes `node.key` and `node.csr` (PKCS #10), and the key stays. The machine of the CA, which may be
offline, answers with one file that holds the certificate of the device, then that of the CA. Neither file is
secret. Who carries them could exchange them, though: the node id of the request and the fingerprint of the CA
are shown on both sides, for people to compare.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from p2pfl.errors import CredentialsError
from p2pfl.identity.authority import Authority, make_private_folder, sign_request, write_certificates
from p2pfl.identity.credentials import (
    AUTHORITY_FILE,
    CERTIFICATE_FILE,
    KEY_FILE,
    Credentials,
    certificate_identity,
    check_signed,
    load_credentials,
    read_certificate,
)
from p2pfl.identity.keys import generate_key, node_id_of, read_key, short, write_file, write_key
from p2pfl.identity.names import Role, check_name
from p2pfl.paths import folders_in, holds_file, is_there, obstacle, shown
from p2pfl.times import show_time

REQUEST_FILE = "node.csr"

MAX_BYTES = 64 * 1024
"""Size of a request or an answer beyond which it is not read: both have one or two kilobytes."""


def make_request(directory: Path, name: str, *, force: bool = False) -> Path:
    """Make key and signing request of device *name* in `directory/name`; return the request's path.

    A key that is there without a certificate is kept, so a lost request can be made again.

    Raises:
        CredentialsError: a bad name, the folder cannot be written, or it has a certificate already and
        *force* is off.
    """
    folder = directory / check_name(name)
    if not force and is_there(folder / CERTIFICATE_FILE):
        raise CredentialsError(
            f"{folder} holds a certificate already: {name} needs no request. Choose another name or folder, "
            "or replace its key with --force (the device becomes a new node)."
        )
    make_private_folder(folder)
    key_path = folder / KEY_FILE
    if not force and holds_file(key_path):
        key = read_key(key_path)
    else:
        key = generate_key()
        write_key(key_path, key)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    write_file(folder / REQUEST_FILE, request.public_bytes(Encoding.PEM))
    return folder / REQUEST_FILE


def read_request(path: Path) -> tuple[x509.CertificateSigningRequest, str]:
    """Read a signing request; return it and the name it asks for, which may be no valid one.

    Raises:
        CredentialsError: the file cannot be read or holds none.
    """
    try:
        request = x509.load_pem_x509_csr(_read(path))
        names = request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    except ValueError as error:
        raise CredentialsError(
            f"{path} holds no signing request in PEM form: give the file that `p2pfl certs request` wrote."
        ) from error
    return request, str(names[0].value) if names else ""


def answer_request(
    authority: Authority,
    request: x509.CertificateSigningRequest,
    name: str,
    role: Role | None = None,
    *,
    days: float | None = None,
    force: bool = False,
) -> bytes:
    """Sign *request* for *name*; return the answer to carry back, which `accept_answer` reads.

    The certificate is also kept in the CA's folder, under *name*, for `p2pfl certs show` and renewals. Who
    asks again with the same key keeps its role unless *role* is given.

    Raises:
        CredentialsError: the name belongs to another key and *force* is off, the request is not valid, or the
        CA is not valid now.
    """
    folder = authority.directory / check_name(name)
    known = read_certificate(folder / CERTIFICATE_FILE) if holds_file(folder / CERTIFICATE_FILE) else None
    is_same = known is not None and known.public_key() == request.public_key()
    if known is not None and is_same:
        role = role or certificate_identity(known, folder / CERTIFICATE_FILE)[1]
    elif is_there(folder) and not force:
        raise CredentialsError(
            f"{folder} exists already: {name} is another device. Choose another name with --name, or replace "
            "that device with --force."
        )
    certificate = sign_request(authority, request, name, role or "node", days)
    make_private_folder(folder)
    if not is_same:
        (folder / KEY_FILE).unlink(missing_ok=True)  # of the device that is replaced
    write_certificates(folder, certificate, authority.certificate)
    return certificate.public_bytes(Encoding.PEM) + authority.certificate.public_bytes(Encoding.PEM)


def accept_answer(path: Path, directory: Path, *, force: bool = False) -> Credentials:
    """Install the answer *path* in the device's folder that has its key, and return what is there then.

    That folder is *directory* or one in it.

    Raises:
        CredentialsError: the answer cannot be read or is not whole, no key here belongs to it, it is out of
        date, or the folder has the certificate of another CA and *force* is off.
    """
    certificate, authority = _read_answer(path)
    check_signed(certificate, authority, f"The certificate in {path}", "the CA in that file")
    federation, _, name = certificate_identity(certificate, path)
    folder = _folder_of(certificate, directory, name)
    known = folder / AUTHORITY_FILE
    if not force and holds_file(known) and read_certificate(known).public_key() != authority.public_key():
        raise CredentialsError(
            f"{folder} belongs to another CA than the one of {federation!r} that signed {path}. If this "
            "device is to change its federation, accept it with --force."
        )
    now = datetime.now(UTC)
    if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
        fault = "has expired" if now > certificate.not_valid_after_utc else "is not valid yet"
        raise CredentialsError(
            f"The certificate of {name} in {path} {fault} by this device's clock, which shows "
            f"{show_time(now)}. Set the clock right, or let the request be signed again."
        )
    write_certificates(folder, certificate, authority)
    credentials = load_credentials(folder)
    (folder / REQUEST_FILE).unlink(missing_ok=True)
    return credentials


def fingerprint(certificate: x509.Certificate) -> str:
    """Return what people compare: SHA-256 of the public key in base32, the first 24 digits (120 bits)."""
    digits = node_id_of(certificate.public_key())
    return "-".join(digits[start : start + 4] for start in range(0, 24, 4))


def _read_answer(path: Path) -> tuple[x509.Certificate, x509.Certificate]:
    """Read the certificates of the device and of the CA."""
    try:
        certificates = x509.load_pem_x509_certificates(_read(path))
    except ValueError as error:
        raise CredentialsError(
            f"{path} holds no certificates in PEM form: give the file that `p2pfl certs sign` wrote."
        ) from error
    if len(certificates) != 2:
        raise CredentialsError(
            f"{path} must hold 2 certificates, the device's and the CA's, but has {len(certificates)}: give "
            "the file that `p2pfl certs sign` wrote."
        )
    return certificates[0], certificates[1]


def _folder_of(certificate: x509.Certificate, directory: Path, name: str) -> Path:
    """Return the folder whose key *certificate* is for: *directory*, or one in it."""
    if why := obstacle(directory):
        raise CredentialsError(f"The folder {shown(directory)} cannot be used: {why}.")
    for folder in (directory, *folders_in(directory)):
        key_path = folder / KEY_FILE
        if holds_file(key_path) and read_key(key_path).public_key() == certificate.public_key():
            return folder
    node = node_id_of(certificate.public_key())
    raise CredentialsError(
        f"No key in {shown(directory)} belongs to the certificate of {name} ({short(node)}): name the folder "
        "where `p2pfl certs request` was run with --certs."
    )


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise CredentialsError(f"{shown(path)} cannot be read: {error.strerror}.") from error
    if len(content) > MAX_BYTES:
        raise CredentialsError(f"{shown(path)} has more than {MAX_BYTES} bytes: it is no file of this kind.")
    return content
