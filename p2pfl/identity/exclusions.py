"""What a device knows about who is kept out of its federation: statements of operators, and the CA's list.

Both lie in the device's folder, beside its certificate: a ban is the federation's, and not one run's or one
data directory's. Every statement and every list is verified when it is read, so a damaged or foreign file
keeps nobody out.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
from cryptography import x509

from p2pfl.errors import CredentialsError
from p2pfl.identity.credentials import Credentials, read_certificate
from p2pfl.identity.keys import write_file
from p2pfl.identity.revocation import Revocations, parse_revocations, read_revocations, save_revocations
from p2pfl.identity.signatories import verify_statement
from p2pfl.paths import holds_file
from p2pfl.statements import REVOKED, Signed, Statement, StatementBook
from p2pfl.times import show_timestamp

STATEMENTS_FILE = "bans.json"
"""The file of statements, in the folder that holds the device's certificate."""

MAX_BYTES = 8 * 2**20
"""Size of that file beyond which it is ignored: more than the largest number of the longest statements."""


class Exclusions:
    """The statements and the revocation list that one device knows, in memory and in its folder."""

    def __init__(self, credentials: Credentials) -> None:
        """Read what is in the device's folder.

        Raises:
            CredentialsError: the revocation list there is damaged, or another CA's.
        """
        self._folder = credentials.directory
        self._federation = credentials.federation
        self._authority = read_certificate(credentials.authority_path)
        self.book = StatementBook()
        self.revocations = Revocations()
        self.remark = ""
        """Why the file of statements was ignored; empty if it was not."""
        self.read()

    def read(self) -> tuple[list[Signed], bool]:
        """Read the files again; return the statements that are news, and whether there is a newer list.

        Raises:
            CredentialsError: the revocation list is damaged, or another CA's.
        """
        listed = read_revocations(self._folder, self._authority)
        is_newer = listed.number > self.revocations.number
        if is_newer:
            self._adopt(listed)
        taken = (self.take(one)[0] for one in self._read_statements())
        return [signed for signed in taken if signed is not None], is_newer

    def _read_statements(self) -> list[Statement]:
        path = self._folder / STATEMENTS_FILE
        self.remark = ""
        if not holds_file(path):
            return []
        try:
            if path.stat().st_size > MAX_BYTES:
                raise ValueError("the file is too long")
            return msgspec.json.decode(path.read_bytes(), type=list[Statement])
        except (OSError, msgspec.MsgspecError, ValueError) as error:
            self.remark = (
                f"the bans in {path} cannot be read and are ignored ({error}); other devices tell them again"
            )
            return []

    def take(self, statement: Statement) -> tuple[Signed | None, str]:
        """Verify *statement*; return it if it is news, or why it does not count (empty: known already)."""
        if self.book.knows(statement):
            return None, ""
        signed = verify_statement(statement, self._authority, self._federation)
        if signed is None:
            return None, "neither an operator nor the CA of this federation has signed it"
        if self._is_void(signed):
            return None, f"the certificate of {signed.by.name}, who signed it, was revoked"
        return (signed, "") if self.book.take(signed) else (None, "")

    def take_revocations(self, der: bytes) -> tuple[bool, str]:
        """Verify the revocation list *der*; return whether it is news, and why it is not valid."""
        if der == self.revocations.der:
            return False, ""
        try:
            found = parse_revocations(der, self._authority)
        except ValueError as error:
            return False, str(error)
        if found.number <= self.revocations.number:
            return False, ""
        self._adopt(found)
        return True, ""

    def _adopt(self, revocations: Revocations) -> None:
        self.revocations = revocations
        self.book.discard(lambda by: not by.is_authority and revocations.covers(by.key, by.serial))

    def _is_void(self, signed: Signed) -> bool:
        by = signed.by
        return not by.is_authority and self.revocations.covers(by.key, by.serial)

    def save(self) -> None:
        """Write both files, durably, where they differ from what is known.

        Raises:
            CredentialsError: the folder cannot be written.
        """
        statements = [one.statement for one in self.book.all()]
        data = msgspec.json.format(msgspec.json.encode(statements)) + b"\n"
        path = self._folder / STATEMENTS_FILE
        if (statements or holds_file(path)) and not _holds(path, data):
            write_file(path, data, mode=0o600)
        if self.revocations.number > _number_in(self._folder, self._authority):
            save_revocations(self._folder, self.revocations)

    def reason(self, node: str, serial: int = 0) -> str:
        """Return why the key *node*, with the certificate *serial*, is kept out; empty if it is not."""
        if self.revocations.covers(node, serial):
            return REVOKED
        ban = self.book.ban_of(node)
        return ban.sentence if ban is not None else ""

    def describe(self, node: str, serial: int = 0) -> str:
        """Return why the key *node* is kept out, with the date where it is known; empty if it is not.

        That is half a sentence after the node's name.
        """
        if self.revocations.covers(node, serial):
            return REVOKED
        ban = self.book.ban_of(node)
        if ban is None:
            return ""
        why = f": {ban.statement.reason}" if ban.statement.reason else ""
        return f"is banned since {show_timestamp(ban.statement.at)} by {ban.by.name}{why}"

    def excluded(self) -> dict[str, str]:
        """Return the reason for each key that is kept out."""
        bans = {node: ban.sentence for node, ban in self.book.bans().items()}
        return bans | dict.fromkeys(sorted(self.revocations.keys), REVOKED)


def _holds(path: Path, data: bytes) -> bool:
    try:
        return path.read_bytes() == data
    except OSError:
        return False


def _number_in(folder: Path, authority: x509.Certificate) -> int:
    """Return the number of the revocation list in *folder*; 0 where there is none that can be used."""
    try:
        return read_revocations(folder, authority).number
    except CredentialsError:
        return 0
