"""Who may make statements about members, and whether a statement is theirs (see `p2pfl.statements`).

Two kinds of keys may: that of a certificate of role operator, and the CA's own. A certificate of a node may
not, so no member can ban another one.
"""

from __future__ import annotations

import contextlib
import time
from functools import lru_cache
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from p2pfl.errors import CredentialsError
from p2pfl.identity.authority import AUTHORITY_KEY_FILE, open_authority
from p2pfl.identity.credentials import load_credentials, read_certificate
from p2pfl.identity.keys import node_id_of, read_key
from p2pfl.identity.peer import identify
from p2pfl.paths import holds_file
from p2pfl.statements import Signatory, Signed, Statement, What, signed_text

REMEMBERED_CERTIFICATES = 64
"""Maximum cached certificates of signers: a federation has few operators."""

_ALGORITHM = ec.ECDSA(hashes.SHA256())


class Signing:
    """The key and the certificate with which this user makes statements."""

    def __init__(self, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate, name: str) -> None:
        self._key = key
        self._certificate = certificate
        self.name = name
        """Who signs, for people."""

    def sign(
        self, what: What, node: str, name: str, *, after: int = 0, incarnation: int = 0, reason: str = ""
    ) -> Statement:
        """Return the statement about *node*, called *name*, with a number above *after*."""
        number = max(after + 1, int(time.time() * 1000))
        text = signed_text(what, node, name, number, incarnation, reason)
        der = self._certificate.public_bytes(Encoding.DER)
        signature = self._key.sign(text, _ALGORITHM)
        return Statement(what, node, name, number, incarnation, reason, der, signature)


def load_signing(directory: Path, name: str | None = None, passphrase: bytes | None = None) -> Signing:
    """Return what signs statements with the credentials in *directory*.

    In the CA's folder it is the CA itself, whose key *passphrase* decrypts, unless *name* selects an
    operator's certificate in it.

    Raises:
        CredentialsError: the certificate cannot be used, or is not an operator's.
    """
    if name is None and holds_file(directory / AUTHORITY_KEY_FILE):
        authority = open_authority(directory, passphrase)
        return Signing(authority.key, authority.certificate, f"the CA of {authority.federation}")
    credentials = load_credentials(directory, name)
    if credentials.role != "operator":
        raise CredentialsError(
            f"The certificate of {credentials.name} in {credentials.directory} has the role "
            f"{credentials.role}: members cannot kick or ban each other, an operator decides. Issue an "
            "operator's certificate with `p2pfl certs issue NAME --role operator` on the CA's machine, and "
            "give its folder with --certs; or give the folder of the CA there."
        )
    key, certificate = read_key(credentials.key_path), read_certificate(credentials.certificate_path)
    return Signing(key, certificate, f"{credentials.name} (operator)")


def verify_statement(statement: Statement, authority: x509.Certificate, federation: str) -> Signed | None:
    """Return *statement* with its signer, if the CA of *authority* or an operator of it signed; else None.

    An operator's certificate must have been valid at the time that the statement names. It is not looked up
    in the revocation list. Never raises.
    """
    found = _signer(statement.certificate, authority, federation)
    if found is None:
        return None
    key, signatory, begins, ends = found
    if not begins <= statement.at <= ends:
        return None
    try:
        key.verify(statement.signature, statement.text, _ALGORITHM)
    except InvalidSignature:
        return None
    return Signed(statement, signatory)


@lru_cache(REMEMBERED_CERTIFICATES)
def _signer(
    der: bytes, authority: x509.Certificate, federation: str
) -> tuple[ec.EllipticCurvePublicKey, Signatory, float, float] | None:
    """Return key, identity and dates of the signer whose certificate is *der*; None if it may not sign."""
    with contextlib.suppress(Exception):  # of many kinds; the certificate is useless for each of them
        certificate = x509.load_der_x509_certificate(der)
        key = certificate.public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
            return None
        if key == authority.public_key():
            signatory = Signatory("the CA", True, node_id_of(key), certificate.serial_number)
            return key, signatory, 0.0, authority.not_valid_after_utc.timestamp()
        certificate.verify_directly_issued_by(authority)
        identity = identify(der, federation)
        if identity.role != "operator":
            return None
        begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        name = f"{identity.name} (operator)"
        signatory = Signatory(name, False, identity.node_id, certificate.serial_number)
        return key, signatory, begins.timestamp(), ends.timestamp()
    return None
