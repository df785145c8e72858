"""How a joiner finds inviters in the local network without their addresses."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from p2pfl.errors import UserError
from p2pfl.net.transport.addresses import Address


@dataclass(frozen=True)
class FoundInviter:
    """An inviter that answered. Nothing of it is proved: the code does that."""

    federation: str
    name: str
    """Of the inviting device."""
    address: Address


async def find_inviters() -> list[FoundInviter]:
    """Return the inviters in this network.

    Raises:
        UserError: they cannot be looked for.
    """
    raise UserError(
        "The inviting device's address is needed: type the whole line that it shows, `p2pfl join HOST:PORT "
        "CODE`."
    )


@contextlib.asynccontextmanager
async def announce_invitation(inviter: FoundInviter) -> AsyncIterator[None]:  # noqa: ARG001 - see `find_inviters`
    """Let joiners find *inviter* in this network, until the context ends."""
    yield
