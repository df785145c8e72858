"""Private keys: created, stored so that only their owner can read them, and mapped to node ids.

A node *is* its key: its node id is a digest of the public key, so it survives a new certificate, a new
address and a new data directory. Keys are ECDSA on P-256: every TLS library supports it, and a signature
takes well under a millisecond on a small device.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import stat
import tempfile
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from p2pfl.errors import CredentialsError
from p2pfl.paths import quoted

SHORT_ID = 7
"""Characters of a node id shown to people: 35 bits distinguish the devices of a federation; no decision uses
them."""


def generate_key() -> ec.EllipticCurvePrivateKey:
    """Make a new private key."""
    return ec.generate_private_key(ec.SECP256R1())


def node_id_of(source: CertificatePublicKeyTypes | bytes) -> str:
    """Return the node id of a public key, or of the public key in a certificate (DER): 52 characters.

    It is the lower-case base32 of SHA-256 of the key's SubjectPublicKeyInfo, without padding.

    Raises:
        ValueError: the bytes are no certificate.
    """
    key = x509.load_der_x509_certificate(source).public_key() if isinstance(source, bytes) else source
    return id_of_spki(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def id_of_spki(spki: bytes) -> str:
    """Return the node id of a public key, given as the DER of its SubjectPublicKeyInfo."""
    return base64.b32encode(hashlib.sha256(spki).digest()).decode().rstrip("=").lower()


def short(node_id: str) -> str:
    """Return the shortened node id that people see next to the device's name."""
    return node_id[:SHORT_ID]


def write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    """Write *key* to *path*, readable by its owner only.

    Raises:
        CredentialsError: the file cannot be written.
    """
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    write_file(path, pem, mode=0o600)


def read_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """Read a private key that `write_key` wrote.

    Raises:
        CredentialsError: the file cannot be read, others can read it too, or it holds no P-256 key.
    """
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            pem = file.read()
    except OSError as error:
        raise CredentialsError(f"The private key {path} cannot be read: {error.strerror}.") from error
    if os.name == "posix" and mode & 0o077:
        raise CredentialsError(
            f"The private key {path} can be read or changed by others (mode {mode:03o}). Run `chmod 600 "
            f"{quoted(path)}`, or move it to a file system that keeps permissions; if others may have seen "
            "it, issue the device a new one."
        )
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError) as error:
        raise CredentialsError(
            f"{path} holds no private key without a password in PEM form; issue it again."
        ) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise CredentialsError(
            f"{path} holds a key that is not ECDSA on P-256, the only kind used here; issue it again."
        )
    return key


def write_file(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Write *data* to *path*, durably, all or nothing, and never readable beyond *mode*.

    Raises:
        CredentialsError: the folder is missing, full or read-only.
    """
    try:
        # mkstemp makes the file 0600, so others cannot read a secret even while it is written.
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            Path(name).chmod(mode)
            Path(name).replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                Path(name).unlink()
            raise
        _sync_folder(path.parent)
    except OSError as error:
        raise CredentialsError(f"{path} cannot be written: {error.strerror}.") from error


def _sync_folder(folder: Path) -> None:
    """Make a rename in *folder* durable. Windows cannot open a folder, and NTFS needs no such flush."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
