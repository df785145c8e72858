from __future__ import annotations

import pytest

from p2pfl.enrolment.finding import FoundInviter, announce_invitation, find_inviters
from p2pfl.errors import UserError
from p2pfl.net.transport.addresses import Address


async def test_an_address_is_asked_for() -> None:
    async with announce_invitation(FoundInviter("lab", "desk", Address("192.0.2.7", 9010))):
        with pytest.raises(UserError, match="p2pfl join HOST:PORT CODE"):
            await find_inviters()
