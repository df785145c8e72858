"""An open invitation: its code, its seats, its end. It is kept in a file beside the CA's key.

Each change is durable before it has an effect: a seat is taken before a certificate is signed, and a wrong
code is counted before it is answered. So an inviter that crashed goes on with the same code, no seat is
given twice, and a device whose answer was lost gets the same certificate again.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Literal

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from p2pfl.enrolment.words import new_code
from p2pfl.errors import CredentialsError, UserError
from p2pfl.identity.authority import AUTHORITY_KEY_FILE, Authority, sign_request, write_certificates
from p2pfl.identity.keys import node_id_of, write_file
from p2pfl.identity.names import Role, check_name
from p2pfl.store.directory import try_lock

INVITATION_FILE = "invitation.json"
"""Mode 0600, in the CA's folder. It holds the code: who may read that folder's key needs no code."""

MAX_WRONG_CODES = 5
"""Wrong codes after which an invitation ends: an attacker has five guesses of 2^33."""

MAX_SEATS = 256
"""As many as the largest roster."""

DEFAULT_TTL_SECONDS = 15 * 60.0
MAX_TTL_SECONDS = 24 * 3600.0
"""A code that is spoken aloud must not be of use for longer."""

InvitationState = Literal["open", "expired", "tries", "full"]


class Seat(msgspec.Struct, frozen=True):
    """A seat that a device has taken."""

    node: str
    """The node id of its key."""
    name: str
    certificate: bytes = b""
    """DER; empty from the moment the seat is taken until the certificate is signed."""
    is_stored: bool = False
    """Whether the device has said that it has its certificate."""


class Invitation(msgspec.Struct, frozen=True):
    """What the file holds."""

    code: str
    role: Role
    count: int
    """Number of seats, taken ones included."""
    expires: float
    """Seconds since the epoch."""
    port: int = 0
    """Where the inviter listens, so that it comes back on the same port; 0 until it does."""
    wrong: int = 0
    """Number of wrong codes so far."""
    seats: tuple[Seat, ...] = ()

    def state(self, now: float) -> InvitationState:
        """Whether new devices may join at *now*, and else why not."""
        if self.wrong >= MAX_WRONG_CODES:
            return "tries"
        if now >= self.expires:
            return "expired"
        return "full" if len(self.seats) >= self.count else "open"

    @property
    def is_done(self) -> bool:
        """Whether all seats are taken, and each device has its certificate."""
        return len(self.seats) >= self.count and all(seat.is_stored for seat in self.seats)

    def seat_of(self, node: str) -> Seat | None:
        """Return the seat of the device with the node id *node*."""
        return next((seat for seat in self.seats if seat.node == node), None)


class InvitationBook:
    """The invitation of a CA's folder. Only one process at a time has it."""

    def __init__(self, authority: Authority, invitation: Invitation) -> None:
        self._authority = authority
        self.invitation = invitation

    @property
    def authority(self) -> Authority:
        """The CA that signs."""
        return self._authority

    def set_port(self, port: int) -> None:
        """Note where the inviter listens.

        Raises:
            CredentialsError: the disk refused.
        """
        self._change(port=port)

    def count_wrong_code(self) -> int:
        """Count a wrong code; return how many more end the invitation.

        Raises:
            CredentialsError: the disk refused.
        """
        # It counts also where the disk refuses: else a full disk would allow any number of guesses.
        self.invitation = msgspec.structs.replace(self.invitation, wrong=self.invitation.wrong + 1)
        self._change()
        return max(0, MAX_WRONG_CODES - self.invitation.wrong)

    def name_for(self, wished: str) -> str:
        """Return the name for a device that wishes for *wished*: with a number if that is taken."""
        taken = {seat.name for seat in self.invitation.seats}
        for number in range(1, len(taken) + MAX_SEATS + 2):
            suffix = "" if number == 1 else f"-{number}"
            name = check_name(wished[: 63 - len(suffix)] + suffix)
            if name not in taken and not os.path.lexists(self._authority.directory / name):
                return name
        raise CredentialsError(f"There are too many devices called {wished}: give this one another name.")

    def take_seat(self, node: str, name: str) -> None:
        """Give a seat to the device *node*, as *name*, durably.

        Raises:
            CredentialsError: the disk refused.
        """
        assert len(self.invitation.seats) < self.invitation.count, "the state was checked"
        self._change(seats=(*self.invitation.seats, Seat(node, name)))

    def certificate_for(self, request: x509.CertificateSigningRequest, now: datetime) -> bytes:
        """Return the certificate (DER) of the device that has a seat and sent *request*.

        It is signed once; the same device gets the same one again.

        Raises:
            CredentialsError: the CA cannot sign now, or the disk refused.
        """
        node = node_id_of(request.public_key())
        seat = self.invitation.seat_of(node)
        assert seat is not None, "a seat is taken before a certificate is signed"
        if seat.certificate:
            return seat.certificate
        certificate = sign_request(self._authority, request, seat.name, self.invitation.role, now=now)
        folder = self._authority.directory / seat.name
        with _disk_errors(folder):
            folder.mkdir(mode=0o700, exist_ok=True)
        write_certificates(folder, certificate, self._authority.certificate)
        der = certificate.public_bytes(Encoding.DER)
        self._replace(msgspec.structs.replace(seat, certificate=der))
        return der

    def mark_stored(self, node: str) -> None:
        """Note that the device *node* has its certificate.

        Raises:
            CredentialsError: the disk refused.
        """
        seat = self.invitation.seat_of(node)
        if seat is not None and not seat.is_stored:
            self._replace(msgspec.structs.replace(seat, is_stored=True))

    def end(self) -> None:
        """Remove the file: the code is of no use any more."""
        with contextlib.suppress(OSError):
            (self._authority.directory / INVITATION_FILE).unlink()

    def _replace(self, seat: Seat) -> None:
        self._change(seats=tuple(seat if one.node == seat.node else one for one in self.invitation.seats))

    def _change(self, **changes: object) -> None:
        changed = msgspec.structs.replace(self.invitation, **changes)
        _write(self._authority.directory, changed)
        self.invitation = changed


@contextlib.contextmanager
def open_invitation(
    authority: Authority, role: Role, count: int, ttl: float, now: float
) -> Iterator[tuple[InvitationBook, bool]]:
    """Open an invitation in the CA's folder, for this process alone; yield it, and whether it goes on.

    An invitation of the same kind that was not ended, because its inviter crashed, goes on with its code. The
    CA's key is the file that is locked.

    Raises:
        UserError: another process has an invitation open there.
        CredentialsError: the disk refused.
    """
    directory = authority.directory
    key_path = directory / AUTHORITY_KEY_FILE
    with contextlib.ExitStack() as stack:
        with _disk_errors(key_path):
            lock = stack.enter_context(key_path.open("rb"))
        if not try_lock(lock):
            raise UserError(
                f"Another command has an invitation open in {directory}: use its code, or end it with Ctrl-C "
                "first."
            )
        before = _read(directory)
        if before is not None and _goes_on(before, role, count, now):
            yield InvitationBook(authority, before), True
            return
        invitation = Invitation(new_code(), role, count, now + ttl)
        _write(directory, invitation)
        yield InvitationBook(authority, invitation), False


def _goes_on(before: Invitation, role: Role, count: int, now: float) -> bool:
    """Whether the invitation of an earlier inviter is still of use, and is of the kind that is wanted now."""
    is_alive = before.state(now) in ("open", "full") and not before.is_done
    return is_alive and (before.role, before.count) == (role, count)


def _read(directory: Path) -> Invitation | None:
    """Return the invitation that was not ended; None without one, also if its file is damaged."""
    try:
        return msgspec.json.decode((directory / INVITATION_FILE).read_bytes(), type=Invitation)
    except (OSError, msgspec.MsgspecError):
        return None


def _write(directory: Path, invitation: Invitation) -> None:
    write_file(directory / INVITATION_FILE, msgspec.json.encode(invitation), mode=0o600)


@contextlib.contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CredentialsError(f"{path} cannot be written: {error.strerror}.") from error
