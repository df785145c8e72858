"""`p2pfl.Certificates` and `p2pfl.issue`: the certificates of a federation, made and read from Python."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Self

from p2pfl.errors import CredentialsError
from p2pfl.identity import authority
from p2pfl.identity.authority import IssuedCertificate
from p2pfl.identity.credentials import Credentials, load_credentials
from p2pfl.identity.names import DEFAULT_FEDERATION, Role
from p2pfl.paths import full


class Certificates:
    """A folder with the certificate authority (CA) of a federation and the folders of its devices.

    ::

        certificates = p2pfl.Certificates.create("certs", federation="lab")
        folder = certificates.issue("laptop")  # copy it to the laptop
    """

    def __init__(self, folder: str | os.PathLike[str] = "certs") -> None:
        """Use the CA in *folder*.

        Raises:
            CredentialsError: there is none, or it cannot be read.
        """
        self.folder = full(Path(folder))
        """The folder as an absolute path, for `certs` of a node."""
        found = authority.read_federation(self.folder)
        if found is None:
            raise CredentialsError(
                f"There is no CA in {self.folder}: make one with p2pfl.Certificates.create(folder), or name "
                "the folder that has it."
            )
        self.federation = found.name
        """The name of the federation."""

    @classmethod
    def create(
        cls, folder: str | os.PathLike[str] = "certs", *, federation: str = DEFAULT_FEDERATION
    ) -> Self:
        """Make the CA of *federation* in *folder*.

        Raises:
            CredentialsError: a bad name, a folder that cannot be written, or a CA is there already.
        """
        authority.create_authority(full(Path(folder)), federation)
        return cls(folder)

    def __repr__(self) -> str:
        return f"<certificates of the federation {self.federation!r} in {self.folder}>"

    def issue(self, name: str, role: Role = "node", *, days: float | None = None) -> Path:
        """Make a key and a certificate for the device *name*; return its folder, to copy to the device.

        The certificate is valid for *days*, by default a year.

        Raises:
            CredentialsError: a bad name, no key of the CA, or the name has a certificate already.
        """
        return authority.issue(self.folder, name, role, days=days)

    def renew(self, name: str, *, days: float | None = None) -> Path:
        """Make a new certificate for the key of the device *name*; return its folder.

        It lives as long as the old one did, or for *days*.

        Raises:
            CredentialsError: no key of the CA, or no certificate of that name.
        """
        return authority.renew(self.folder, name, days=days)

    def load(self, name: str | None = None) -> Credentials:
        """Read and check the certificate of the device *name*, or of the only device.

        Raises:
            CredentialsError: it is missing, damaged or out of date.
        """
        return load_credentials(self.folder, name)

    def issued(self) -> list[IssuedCertificate]:
        """Return the certificates of all devices, by name.

        Raises:
            CredentialsError: one of them cannot be read.
        """
        return authority.list_certificates(self.folder)


def issue(
    name: str, certs: str | os.PathLike[str] = "certs", *, federation: str = DEFAULT_FEDERATION
) -> Path:
    """Return the folder of the device *name* in *certs*; its key and certificate are made if needed.

    The CA of *federation* is made too if *certs* has none, so a notebook may call this again and again. It is
    meant for trying things out: on several devices, the folder of each is copied to it.

    Raises:
        CredentialsError: a bad name, a folder that cannot be written, or what is there cannot be used.
    """
    folder = full(Path(certs))
    if authority.read_federation(folder) is None:
        authority.create_authority(folder, federation)
    if (folder / name).exists():
        return load_credentials(folder, name).directory
    return authority.issue(folder, name)
