"""What TLS a node's port speaks, seen from outside as a scanner does: TLS 1.3 only, and no resumption."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from p2pfl.identity.credentials import Credentials
from p2pfl.net.transport.tls import BLOB_ALPN, CONTROL_ALPN, OBSERVE_ALPN, client_context
from tests.support.federation import make_federation
from tests.support.meshes import lab

OLDER = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1]


@pytest.fixture
def federation(tmp_path: Path) -> dict[str, Credentials]:
    return make_federation(tmp_path / "ca", "ant", "bee")


@pytest.fixture
async def port(tmp_path: Path, federation: dict[str, Credentials]) -> AsyncIterator[int]:
    async with lab(tmp_path) as world:
        ant = await world.start(federation["ant"])
        yield int(ant.address.rpartition(":")[2])


async def connect(port: int, context: ssl.SSLContext) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", port, ssl=context)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1:DeprecationWarning")
@pytest.mark.parametrize("version", OLDER, ids=lambda version: version.name)
async def test_no_older_version_is_spoken_even_with_a_right_certificate(
    port: int, federation: dict[str, Credentials], version: ssl.TLSVersion
) -> None:
    context = client_context(federation["bee"])
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.maximum_version = version
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises(ssl.SSLError, match=r"PROTOCOL_VERSION|protocol version|NO_PROTOCOLS_AVAILABLE"):
        await connect(port, context)


@pytest.mark.parametrize("protocol", [CONTROL_ALPN, BLOB_ALPN, OBSERVE_ALPN])
async def test_a_handshake_gives_no_session_to_resume(
    port: int, federation: dict[str, Credentials], protocol: str
) -> None:
    context = client_context(federation["bee"], [protocol])
    for _ in range(2):
        reader, writer = await connect(port, context)
        connection = writer.get_extra_info("ssl_object")
        assert connection.version() == "TLSv1.3"
        # What follows the handshake would hold the tickets: a refusal of nonsense shows that it was read.
        writer.write(b"\xff\xff\xff\xff")
        await reader.read()
        assert not connection.session.has_ticket
        assert not connection.session_reused
        writer.transport.abort()


async def test_a_session_that_is_offered_is_not_resumed(
    port: int, federation: dict[str, Credentials]
) -> None:
    """Blocking sockets: only they let a client offer a session."""

    def twice() -> list[bool | None]:
        import socket

        reused: list[bool | None] = []
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(federation["bee"].authority_path)
        context.load_cert_chain(federation["bee"].certificate_path, federation["bee"].key_path)
        context.set_alpn_protocols([CONTROL_ALPN])
        session: ssl.SSLSession | None = None
        for _ in range(2):
            with (
                socket.create_connection(("127.0.0.1", port)) as raw,
                context.wrap_socket(raw, session=session) as secured,
            ):
                secured.sendall(b"\xff\xff\xff\xff")
                try:
                    while secured.recv(4096):
                        pass
                except OSError:
                    pass
                reused.append(secured.session_reused)
                session = secured.session
        return reused

    assert await asyncio.to_thread(twice) == [False, False]
