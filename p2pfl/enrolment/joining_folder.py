"""The files of a device that joins: a folder that appears whole, with key and certificate, or not at all.

The key is born in a hidden folder beside it, and is on the disk before the request is sent. So a device that
loses power before the answer asks again with the same key, and gets its certificate.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from p2pfl.enrolment.joiner import Joined
from p2pfl.errors import CredentialsError
from p2pfl.identity.authority import AUTHORITY_KEY_FILE, write_certificates
from p2pfl.identity.credentials import KEY_FILE
from p2pfl.identity.keys import generate_key, read_key, sync_folder, write_key
from p2pfl.identity.known_peers import save_known_peers
from p2pfl.identity.names import check_name
from p2pfl.paths import holds_file, is_there


class JoiningFolder:
    """The folder of one device that joins."""

    def __init__(self, directory: Path, name: str) -> None:
        """Use *directory* for a device that would like to be called *name*.

        Raises:
            CredentialsError: a bad name, a device of that name is there already, or it is the CA's folder.
        """
        check_name(name)
        if holds_file(directory / AUTHORITY_KEY_FILE):
            raise CredentialsError(
                f"{directory} holds the CA's key, so this is the inviting device's folder: choose another "
                "one with --certs."
            )
        if os.path.lexists(directory / name):
            raise CredentialsError(
                f"{directory / name} exists already, so this device has joined as {name}. Start it with "
                "`p2pfl node`, or join with another --name or --certs."
            )
        self.wished = name
        """The name that the device would like."""
        self._directory = directory
        self._pending = directory / f".{name}.joining"
        self._made: list[Path] = []

    def key(self) -> ec.EllipticCurvePrivateKey:
        """Return the device's key: a new one, or that of a try whose answer was lost.

        Raises:
            CredentialsError: the disk refused.
        """
        path = self._pending / KEY_FILE
        if holds_file(path):
            return read_key(path)
        missing = [one for one in (self._directory, *self._directory.parents) if not is_there(one)]
        try:
            for folder in reversed(missing):
                folder.mkdir(mode=0o700)
                self._made.insert(0, folder)
            self._pending.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            self.discard()
            raise CredentialsError(
                f"The folder {self._pending} cannot be made: {error.strerror}. Choose another one with "
                "--certs."
            ) from error
        key = generate_key()
        write_key(path, key)
        return key

    def keep(self, joined: Joined) -> Path:
        """Write what was got, durably, and return the device's folder.

        Raises:
            CredentialsError: the disk refused, or a device of the given name is there already.
        """
        write_certificates(self._pending, joined.certificate, joined.authority)
        save_known_peers(self._pending, joined.members)
        folder = self._directory / joined.name
        try:
            self._pending.rename(folder)
            sync_folder(self._directory)
        except OSError as error:
            raise CredentialsError(
                f"{self._pending} holds this device's key and certificate, and cannot be renamed to "
                f"{folder}: {error.strerror}. Rename it yourself."
            ) from error
        return folder

    def discard(self) -> None:
        """Remove all that was made: the device was not let in."""
        shutil.rmtree(self._pending, ignore_errors=True)
        for folder in self._made:
            with contextlib.suppress(OSError):  # something else is in it by now
                folder.rmdir()
