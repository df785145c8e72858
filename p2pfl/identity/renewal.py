"""Renewal of certificates between devices: what a holder of the CA signs, and what a device accepts.

A device shows its certificate on a link whose TLS handshake has proved its key, and gets one with new dates.
Nothing else can change: key, name, role and federation stay, and the new certificate lives as long as the old
one did. So a renewal gives nobody a right that the CA has not given to the same key before.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from p2pfl.errors import CredentialsError
from p2pfl.identity.authority import AUTHORITY_KEY_FILE, open_authority, renewed
from p2pfl.identity.credentials import (
    AUTHORITY_FILE,
    CERTIFICATE_FILE,
    Credentials,
    certificate_identity,
    check_signed,
    read_certificate,
)
from p2pfl.identity.keys import node_id_of, write_file
from p2pfl.identity.lifetime import Lifetime
from p2pfl.paths import holds_file
from p2pfl.times import show_time

logger = logging.getLogger(__name__)

RENEWED_WITHIN = 0.5
"""The share of a certificate's life that may be left when it is renewed. Devices ask with a third left; the
rest is for clocks that differ."""


class RenewalDeniedError(CredentialsError):
    """A holder of the CA does not renew a certificate; the message is for the device that asked."""


class Renewer:
    """Renews certificates with the CA in a folder, whose key it reads for each one and does not keep."""

    def __init__(
        self,
        directory: Path,
        passphrase: bytes | None = None,
        forbids: Callable[[x509.Certificate], str] = lambda _: "",
    ) -> None:
        """Read nothing yet. *forbids* says why a certificate must not be renewed; empty if it may be."""
        self.directory = directory
        self._passphrase = passphrase
        self._forbids = forbids

    def check(self) -> None:
        """Check that the CA can be read now.

        Raises:
            PassphraseNeededError: its key has a passphrase, and there is none here.
            CredentialsError: it cannot be read.
        """
        open_authority(self.directory, self._passphrase)

    def renew(self, shown: bytes, node: str, name: str, now: datetime) -> bytes:
        """Return the certificate *shown* (DER) with new dates, for the device that proved to be *node*.

        The copy in the CA's folder, if there is one, is replaced too. Call it in a thread: it reads files,
        and may derive a key from a passphrase.

        Raises:
            RenewalDeniedError: the certificate is not that of *node* and *name*, not of this CA, out of date,
            not due yet, forbidden, or the CA cannot sign now.
        """
        certificate = _parse(shown)
        try:
            authority = open_authority(self.directory, self._passphrase)
        except CredentialsError as error:
            logger.warning("no certificate can be renewed: %s", error)
            raise RenewalDeniedError("its CA cannot be read now; its log says why") from error
        try:
            check_signed(certificate, authority.certificate)
            federation, role, own_name = certificate_identity(certificate, Path(CERTIFICATE_FILE))
        except CredentialsError as error:
            raise RenewalDeniedError("the certificate is not one of its CA") from error
        if (node_id_of(certificate.public_key()), own_name, role) != (node, name, "node"):
            raise RenewalDeniedError("the certificate belongs to another device")
        if federation != authority.federation:
            raise RenewalDeniedError("the certificate is of another federation")
        _check_due(certificate, now)
        if why := self._forbids(certificate):
            raise RenewalDeniedError(why)
        try:
            fresh = renewed(authority, certificate, now=now)
        except CredentialsError as error:
            logger.warning("no certificate can be renewed: %s", error)
            raise RenewalDeniedError("its CA cannot sign now; its log says why") from error
        if fresh.not_valid_after_utc <= certificate.not_valid_after_utc:
            raise RenewalDeniedError(
                f"the CA itself ends on {show_time(authority.certificate.not_valid_after_utc)}"
            )
        self._keep(fresh, name)
        return fresh.public_bytes(Encoding.DER)

    def _keep(self, certificate: x509.Certificate, name: str) -> None:
        """Replace the copy in the CA's folder, which `p2pfl certs show` lists, if it is of the same key."""
        path = self.directory / name / CERTIFICATE_FILE
        if not holds_file(path):
            return
        try:
            if read_certificate(path).public_key() == certificate.public_key():
                write_file(path, certificate.public_bytes(Encoding.PEM))
        except CredentialsError as error:
            logger.warning("the copy of a renewed certificate was not kept: %s", error)


def accept_renewed(data: bytes, credentials: Credentials, now: datetime) -> None:
    """Write the new certificate in *data* (DER) in place of the one in *credentials*.

    Raises:
        CredentialsError: it is not this device's with a later end, or the file cannot be written.
    """
    certificate = _parse(data)
    path = credentials.certificate_path
    check_signed(certificate, read_certificate(credentials.authority_path))
    federation, role, name = certificate_identity(certificate, path)
    own = (credentials.federation, credentials.role, credentials.name, credentials.node_id)
    if (federation, role, name, node_id_of(certificate.public_key())) != own:
        raise CredentialsError("the new certificate has another key, name or role")
    if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
        raise CredentialsError("the new certificate is out of date by this device's clock")
    if certificate.not_valid_after_utc <= credentials.not_after:
        raise CredentialsError("the new certificate does not end later than the old one")
    write_file(path, certificate.public_bytes(Encoding.PEM))


def authority_folder(credentials: Credentials) -> Path | None:
    """Return the folder with the CA of *credentials*: the device's folder or the one above; None if neither.

    A CA of another federation that happens to lie there does not count.
    """
    for folder in (credentials.directory, credentials.directory.absolute().parent):
        if holds_file(folder / AUTHORITY_KEY_FILE) and is_authority_of(folder, credentials):
            return folder
    return None


def is_authority_of(folder: Path, credentials: Credentials) -> bool:
    """Whether the certificate of the CA in *folder* is the one in *credentials*; never raises."""
    try:
        there, own = (read_certificate(one) for one in (folder / AUTHORITY_FILE, credentials.authority_path))
    except CredentialsError:
        return False
    return there == own


def _check_due(certificate: x509.Certificate, now: datetime) -> None:
    lifetime = Lifetime(certificate.not_valid_before_utc, certificate.not_valid_after_utc)
    if not lifetime.not_before <= now <= lifetime.not_after:
        raise RenewalDeniedError(
            f"the certificate is out of date by its clock, which shows {show_time(now)}; renew it by hand"
        )
    if lifetime.not_after - now > lifetime.length * RENEWED_WITHIN:
        raise RenewalDeniedError("the certificate has more than half of its life left")


def _parse(data: bytes) -> x509.Certificate:
    try:
        return x509.load_der_x509_certificate(data)
    except ValueError as error:
        raise RenewalDeniedError("what was sent is no certificate") from error
