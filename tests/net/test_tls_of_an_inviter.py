"""What TLS the enrolment port speaks, seen from outside as a scanner does: TLS 1.3 only, and no resumption."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from p2pfl.enrolment.channel import ENROL_ALPN
from p2pfl.net.transport.addresses import Address
from p2pfl.net.transport.tls import BLOB_ALPN, CONTROL_ALPN, anonymous_client_context
from tests.support.enrolling import inviting

OLDER = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1]

NONSENSE = b"\xff\xff\xff\xff"
"""The inviter closes the connection for it; what follows the handshake has been read then."""


@pytest.fixture
async def inviter(tmp_path: Path) -> AsyncIterator[Address]:
    async with inviting(tmp_path / "ca") as open_:
        yield open_.address


async def connect(
    inviter: Address, context: ssl.SSLContext
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(inviter.host, inviter.port, ssl=context)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1:DeprecationWarning")
@pytest.mark.parametrize("version", OLDER, ids=lambda version: version.name)
async def test_no_older_version_is_spoken(inviter: Address, version: ssl.TLSVersion) -> None:
    context = anonymous_client_context(ENROL_ALPN)
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.maximum_version = version
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises(ssl.SSLError, match=r"PROTOCOL_VERSION|protocol version|NO_PROTOCOLS_AVAILABLE"):
        await connect(inviter, context)


@pytest.mark.parametrize("protocol", [CONTROL_ALPN, BLOB_ALPN])
async def test_the_protocols_of_nodes_are_not_spoken(inviter: Address, protocol: str) -> None:
    reader, writer = await connect(inviter, anonymous_client_context(protocol))
    assert writer.get_extra_info("ssl_object").selected_alpn_protocol() is None
    writer.write(NONSENSE)
    await reader.read()
    writer.transport.abort()


async def test_a_handshake_gives_no_session_to_resume_and_an_offered_one_is_not_resumed(
    inviter: Address,
) -> None:
    """Blocking sockets: only they let a client offer a session."""

    def twice() -> list[tuple[str | None, bool, bool | None]]:
        seen = []
        context = anonymous_client_context(ENROL_ALPN)
        session: ssl.SSLSession | None = None
        for _ in range(2):
            with (
                socket.create_connection((inviter.host, inviter.port)) as raw,
                context.wrap_socket(raw, session=session) as secured,
            ):
                secured.sendall(NONSENSE)
                try:
                    while secured.recv(4096):
                        pass
                except OSError:
                    pass
                session = secured.session
                assert session is not None
                seen.append((secured.version(), session.has_ticket, secured.session_reused))
        return seen

    assert await asyncio.to_thread(twice) == [("TLSv1.3", False, False)] * 2
