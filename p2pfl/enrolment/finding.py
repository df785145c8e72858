"""How a joiner finds inviters in the local network without their addresses, by mDNS.

An announcement proves nothing, and needs to prove nothing: the code does.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from p2pfl import __version__
from p2pfl.discovery.announcements import InvitationAnnouncement, invitation_service, read_invitation
from p2pfl.discovery.lan import lan
from p2pfl.discovery.services import Found
from p2pfl.errors import NetworkError, UserError
from p2pfl.net.transport.addresses import Address

SEARCH_SECONDS = 10.0
"""How long nothing may be found: an answer takes a second, also in a Wi-Fi that loses packets."""

MORE_SECONDS = 1.0
"""How long others may follow the first inviter."""

ADVICE = "type the whole line that the inviting device shows, `p2pfl join HOST:PORT CODE`"


@dataclass(frozen=True)
class FoundInviter:
    """An inviter that was found."""

    federation: str
    name: str
    """Of the inviting device."""
    address: Address


async def find_inviters() -> list[FoundInviter]:
    """Return the inviters in this network, by name; none if nobody has answered in time.

    Raises:
        UserError: they cannot be looked for.
    """
    inviters: dict[str, FoundInviter] = {}
    has_first = asyncio.Event()

    def notice(instance: str, found: Found | None) -> None:
        invitation = None if found is None else read_invitation(found)
        if found is None or invitation is None or not found.addresses:
            inviters.pop(instance, None)
            return
        address = Address(found.addresses[0], found.port)
        inviters[instance] = FoundInviter(invitation.federation, invitation.inviter, address)
        has_first.set()

    try:
        async with lan() as network, network.browsing("invitation", notice):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SEARCH_SECONDS):
                    await has_first.wait()
                    await asyncio.sleep(MORE_SECONDS)
    except NetworkError as error:
        raise UserError(f"Inviters cannot be looked for: {error}. Instead, {ADVICE}.") from error
    return sorted(inviters.values(), key=lambda one: (one.name, one.address))


@contextlib.asynccontextmanager
async def announce_invitation(inviter: FoundInviter, tell: Callable[[str], None]) -> AsyncIterator[None]:
    """Let joiners find *inviter* in this network until the context ends; *tell* is told why they cannot."""
    if inviter.address.is_loopback:  # no other device can join
        yield
        return

    def say(trouble: str) -> None:
        if trouble:
            tell(f"Devices that join need this device's address: {trouble}.")

    announcement = InvitationAnnouncement(inviter.federation, inviter.name, __version__)
    # Two inviters of one name differ in their addresses.
    instance = f"{inviter.name[:30]} {inviter.address}"[:60]
    service = invitation_service(announcement, instance, inviter.address.port)
    async with contextlib.AsyncExitStack() as stack:
        try:
            network = await stack.enter_async_context(lan((), say))
            await stack.enter_async_context(network.announced(service))
        except NetworkError as error:
            say(str(error))
        yield
