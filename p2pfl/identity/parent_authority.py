"""An existing CA, such as that of an organisation, that lets a federation have a CA of its own below it.

It signs one certificate, that of the federation's CA, and is not needed again. The federation's CA is what
devices trust: certificates that the existing CA issues for other purposes do not make anybody a member, and
its key never comes near a node. What OpenSSL would not check later, because a chain ends at the federation's
CA, is checked here once: that the existing CA may have a CA below it, its dates, and its name constraints.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

from p2pfl.errors import CredentialsError
from p2pfl.identity.credentials import read_certificate
from p2pfl.identity.keys import read_private_key
from p2pfl.identity.names import parse_authority_uri
from p2pfl.identity.peer import certificate_uris
from p2pfl.times import show_time

ParentKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey

_Extension = TypeVar("_Extension", bound=x509.ExtensionType)

MIN_RSA_BITS = 2048
"""Shorter keys are refused: NIST SP 800-131A allows none since 2014."""


@dataclass(frozen=True)
class ParentAuthority:
    """An existing CA whose key was read."""

    path: Path
    """Of its certificate, for messages."""
    key: ParentKey = field(repr=False)
    certificate: x509.Certificate

    @property
    def hash(self) -> hashes.SHA256 | None:
        """The hash of its signatures; None for keys that bring their own."""
        brings_own = isinstance(self.key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey)
        return None if brings_own else hashes.SHA256()

    @property
    def identifier(self) -> x509.SubjectKeyIdentifier:
        """The identifier of its key, by which OpenSSL finds the issuer of a certificate."""
        try:
            return self.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        except x509.ExtensionNotFound:
            return x509.SubjectKeyIdentifier.from_public_key(self.certificate.public_key())

    @property
    def federation(self) -> str | None:
        """The federation that its certificate names: then it is one's CA itself, and needs none below it."""
        uris = certificate_uris(self.certificate)
        return parse_authority_uri(uris[0]) if len(uris) == 1 else None

    def federation_key(self) -> ec.EllipticCurvePrivateKey:
        """Return its key, if devices would accept what it signs for them.

        Raises:
            CredentialsError: it is not ECDSA on P-256, or the certificate lacks what OpenSSL requires of a
            CA's (RFC 5280, section 4.2).
        """
        if not isinstance(self.key, ec.EllipticCurvePrivateKey) or not isinstance(
            self.key.curve, ec.SECP256R1
        ):
            raise CredentialsError(
                f"The CA in {self.path} names a federation, so devices trust it directly, and its key is not "
                "ECDSA on P-256, the only kind used for that. Let its owner issue one for such a key."
            )
        if self._extension(x509.SubjectKeyIdentifier) is None or self._extension(x509.KeyUsage) is None:
            raise CredentialsError(
                f"The certificate {self.path} lacks a subject key identifier or a key usage, which OpenSSL "
                "requires of a CA's. Let its owner issue it anew with both."
            )
        return self.key

    def check(self, federation: str, now: datetime) -> None:
        """Refuse a CA that does not allow a CA of *federation* below it at *now*.

        Raises:
            CredentialsError: it does not; the message says which part of its certificate forbids it.
        """
        self.check_usable(federation, now)
        constraints = self._extension(x509.BasicConstraints)
        if constraints is not None and constraints.path_length == 0:
            raise CredentialsError(
                f"The CA in {self.path} allows no CA below it (path length 0). Let its owner issue a CA's "
                f"certificate for this federation, with the URI spiffe://{federation}, and give that one "
                "with its key; or make a CA of its own with `p2pfl certs init` alone."
            )

    def check_usable(self, federation: str, now: datetime) -> None:
        """Refuse a certificate that is no CA's, is out of date at *now*, or excludes names of *federation*.

        Raises:
            CredentialsError: it is; the message says why.
        """
        constraints, usage = self._extension(x509.BasicConstraints), self._extension(x509.KeyUsage)
        if constraints is None or not constraints.ca or (usage is not None and not usage.key_cert_sign):
            raise CredentialsError(
                f"{self.path} is no certificate of a CA: it may not sign other certificates. Give a CA's "
                "with --ca-cert."
            )
        certificate = self.certificate
        if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
            raise CredentialsError(
                f"The CA in {self.path} is valid from {show_time(certificate.not_valid_before_utc)} to "
                f"{show_time(certificate.not_valid_after_utc)}, and this machine's clock shows "
                f"{show_time(now)}. Set the clock right, or use a CA that is valid."
            )
        if isinstance(self.key, rsa.RSAPrivateKey) and self.key.key_size < MIN_RSA_BITS:
            raise CredentialsError(
                f"The CA in {self.path} has an RSA key of {self.key.key_size} bits, and at least "
                f"{MIN_RSA_BITS} are needed. Use another CA."
            )
        names = self._extension(x509.NameConstraints)
        if names is not None and not _allows(names, federation):
            raise CredentialsError(
                f"The name constraints of the CA in {self.path} do not allow certificates with the URI "
                f"spiffe://{federation}. Choose another --federation, or another CA."
            )

    def _extension(self, kind: type[_Extension]) -> _Extension | None:
        try:
            return self.certificate.extensions.get_extension_for_class(kind).value
        except x509.ExtensionNotFound:
            return None


def read_parent_authority(
    certificate_path: Path, key_path: Path, passphrase: bytes | None = None
) -> ParentAuthority:
    """Read an existing CA; *passphrase* decrypts its key.

    Raises:
        PassphraseNeededError: the key has a passphrase, and none was given.
        CredentialsError: a file cannot be read, both do not belong together, or the key is of a kind that
        does not sign certificates here.
    """
    certificate, key = read_certificate(certificate_path), read_private_key(key_path, passphrase)
    if not isinstance(key, ParentKey):
        raise CredentialsError(
            f"{key_path} holds a key that cannot sign certificates here: RSA, ECDSA or EdDSA is needed."
        )
    if certificate.public_key() != key.public_key():
        raise CredentialsError(
            f"{key_path} and {certificate_path} do not belong together: give those of one CA."
        )
    return ParentAuthority(certificate_path, key, certificate)


def _allows(names: x509.NameConstraints, federation: str) -> bool:
    """Whether name constraints (RFC 5280, section 4.2.1.10) allow URIs and subjects of *federation*."""

    def covers(name: x509.GeneralName) -> bool:
        if not isinstance(name, x509.UniformResourceIdentifier):
            return False
        return federation == name.value or (name.value.startswith(".") and federation.endswith(name.value))

    permitted, excluded = names.permitted_subtrees or (), names.excluded_subtrees or ()
    if any(isinstance(name, x509.DirectoryName) for name in permitted):
        return False  # the subjects of certificates here are the federation's, not the organisation's
    uris = [name for name in permitted if isinstance(name, x509.UniformResourceIdentifier)]
    return (not uris or any(map(covers, uris))) and not any(map(covers, excluded))
