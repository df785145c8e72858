"""An invitation from its options to its end: opened on disk, listened for, announced, and removed."""

from __future__ import annotations

import contextlib
import re
import socket
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

from p2pfl.config import DEFAULT_PORT
from p2pfl.enrolment.channel import DEFAULT_INVITATION_PORT
from p2pfl.enrolment.device_names import host_device_name
from p2pfl.enrolment.finding import FoundInviter, announce_invitation
from p2pfl.enrolment.invitation import DEFAULT_TTL_SECONDS, MAX_SEATS, MAX_TTL_SECONDS, open_invitation
from p2pfl.enrolment.inviter import ConfirmFunction, Inviter
from p2pfl.enrolment.members import known_members, own_devices, who_is_at
from p2pfl.enrolment.own_address import own_address
from p2pfl.errors import NetworkError, UserError
from p2pfl.identity.authority import Authority, open_authority
from p2pfl.identity.known_peers import KnownPeer
from p2pfl.identity.names import Role
from p2pfl.net.transport import sockets
from p2pfl.net.transport.addresses import Address, parse_address

MIN_TTL_SECONDS = 1.0

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True)
class InvitationOptions:
    """What the person who invites decides."""

    directory: Path
    """The folder of the CA."""
    count: int = 1
    """Number of devices that can join."""
    ttl: float = DEFAULT_TTL_SECONDS
    """Seconds until the invitation expires."""
    role: Role = "node"
    listen: tuple[str | None, int] | None = None
    """Host (None: every interface) and port (0: any free one); None: the usual port if it is free."""
    peers: tuple[str, ...] = ()
    """Addresses of nodes that run already."""
    node_port: int = DEFAULT_PORT
    """Where the node of this device listens, or will; 0: nobody knows yet."""
    passphrase: bytes | None = None
    """Of the CA's key; None: it has none."""

    def __post_init__(self) -> None:
        """Check the bounds.

        Raises:
            UserError: no invitation has so many seats.
        """
        if not 1 <= self.count <= MAX_SEATS:
            raise UserError(f"--count is {self.count}, and 1 to {MAX_SEATS} devices can join with one code.")


@dataclass(frozen=True)
class OpenInvitation:
    """An invitation that devices can use now."""

    federation: str
    address: Address
    code: str
    expires: float
    """Seconds since the epoch."""
    goes_on: bool
    """Whether it was open before, and its inviter crashed."""
    inviter: Inviter

    @property
    def shown_end(self) -> str:
        """When it expires, by this device's clock."""
        return time.strftime("%H:%M", time.localtime(self.expires))

    @property
    def command(self) -> str:
        """What is typed on a device that joins."""
        return f"p2pfl join {self.address} {self.code}"


@contextlib.asynccontextmanager
async def serving(
    options: InvitationOptions, confirm: ConfirmFunction | None, tell: Callable[[str], None]
) -> AsyncIterator[OpenInvitation]:
    """Serve an invitation while the context lasts; then it has ended, and its code is of no use.

    *confirm* asks a person about a device (None: the code is enough), *tell* gets lines for that person.

    Raises:
        UserError: an option is of no use, there is no CA, or this device cannot listen.
    """
    authority = open_authority(options.directory, options.passphrase)
    addresses = [parse_address(text) for text in options.peers]
    with open_invitation(authority, options.role, options.count, options.ttl, time.time()) as (book, goes_on):
        listening = _listen(options.listen, book.invitation.port)
        try:
            bound = sockets.local_address(listening[0])
            host = own_address() if bound.host in ("0.0.0.0", "::") else bound.host  # noqa: S104 - compared only
            book.set_port(bound.port)
            told = await _asked(addresses, authority, tell)

            def members() -> list[KnownPeer]:
                own = own_devices(options.directory, host, options.node_port)
                return [*known_members(options.directory), *own, *told]

            inviter = Inviter(book, confirm, tell, members)
        except BaseException:
            for one in listening:
                one.close()
            raise
        inviter.open(listening)
        address = Address(host, bound.port)
        invitation = book.invitation
        try:
            found = FoundInviter(authority.federation, host_device_name(), address)
            async with announce_invitation(found, tell):
                yield OpenInvitation(
                    authority.federation, address, invitation.code, invitation.expires, goes_on, inviter
                )
        finally:
            await inviter.close()
            book.end()


def parse_ttl(text: str) -> float:
    """Return the seconds of --ttl, such as 15m, 90s or 1h.

    Raises:
        UserError: it is no such time, or too long or short.
    """
    match = re.fullmatch(r"([0-9]{1,6}(?:\.[0-9]{1,3})?)([smh])", text.strip().casefold())
    seconds = float(match[1]) * _UNITS[match[2]] if match else 0.0
    if not MIN_TTL_SECONDS <= seconds <= MAX_TTL_SECONDS:
        raise UserError(
            f"--ttl is {text[:40]!r}, and a time from 1s to 24h is expected, such as 15m: a code that was "
            "spoken aloud must not be of use for longer."
        )
    return seconds


async def _asked(
    addresses: list[Address], authority: Authority, tell: Callable[[str], None]
) -> list[KnownPeer]:
    """Return the nodes at *addresses*; one that does not answer is named and left out."""
    found = []
    for address in addresses:
        try:
            found.append(await who_is_at(address, authority))
        except NetworkError as error:
            tell(f"{error} Devices that join are not told of it.")
    return found


def _listen(listen: tuple[str | None, int] | None, before: int) -> list[socket.socket]:
    """Return the listening sockets, on the port of *before* (0: none) if no other is asked for."""
    if listen is not None:
        return sockets.listen(*listen)
    try:
        return sockets.listen(None, before or DEFAULT_INVITATION_PORT)
    except UserError:
        return sockets.listen(None, 0)
