from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import ssl
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from p2pfl.errors import CredentialsError, HandshakeRefused
from p2pfl.identity.authority import Authority, create_authority, issue, sign
from p2pfl.identity.credentials import Credentials, read_certificate, read_credentials
from p2pfl.identity.keys import generate_key, read_key, write_file, write_key
from p2pfl.identity.parent_authority import read_parent_authority
from p2pfl.net.transport.explain import explain
from p2pfl.net.transport.tls import (
    BLOB_ALPN,
    CONTROL_ALPN,
    PLAIN_TEXT_REPLY,
    authenticate,
    client_context,
    secure,
    server_context,
)
from p2pfl.times import show_time
from tests.support.federation import make_federation
from tests.unit.identity.test_parent_authority import parent

YEAR = timedelta(days=365)


class Reader(asyncio.Protocol):
    """Records the first bytes of its connection, or why it ended."""

    def __init__(self) -> None:
        self.first: asyncio.Future[bytes | Exception | None] = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        if not self.first.done():
            self.first.set_result(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.first.done():
            self.first.set_result(exc)


class Outcome(NamedTuple):
    """The result on each side of one connection: the identity of the peer, or the error message."""

    server: str
    client: str


def listen() -> socket.socket:
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    return listener


async def serve_once(listener: socket.socket, credentials: Credentials, seconds: float = 5.0) -> str:
    """Accept one connection; return the identity of the peer, or the error message."""
    sock, _ = await asyncio.get_running_loop().sock_accept(listener)
    try:
        transport, reader = await secure(
            sock, Reader, server_context(credentials), credentials, dialing=False, seconds=seconds
        )
    except HandshakeRefused as error:
        return str(error)
    transport.write(b"welcome")
    try:
        identity, protocol = authenticate(transport, credentials)
    except HandshakeRefused as error:
        return str(error)
    finally:
        transport.close()
        await reader.first
    return f"{identity.name} {identity.role} {protocol}"


async def dial_once(
    address: tuple[str, int], credentials: Credentials, *protocols: str, seconds: float = 5.0
) -> str:
    """Dial and read once; return the identity of the peer, or the error message."""
    sock = socket.socket()
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, address)
    context = client_context(credentials, protocols or (CONTROL_ALPN,))
    try:
        transport, reader = await secure(sock, Reader, context, credentials, dialing=True, seconds=seconds)
    except HandshakeRefused as error:
        return str(error)
    transport.write(b"hello" * 1000)  # as a node does: it believes it is connected
    first = await reader.first
    try:
        if isinstance(first, Exception):
            return explain(first, credentials, dialing=True)
        identity, protocol = authenticate(transport, credentials)
    except HandshakeRefused as error:
        return str(error)
    finally:
        transport.close()
    return f"{identity.name} {identity.role} {protocol}"


async def meet(server: Credentials, client: Credentials, *protocols: str) -> Outcome:
    """Connect two devices."""
    with listen() as listener:
        return Outcome(
            *await asyncio.gather(
                serve_once(listener, server), dial_once(listener.getsockname(), client, *protocols)
            )
        )


async def meet_client(
    server: Credentials, act: Callable[[socket.socket], str], seconds: float = 5.0
) -> Outcome:
    """Connect *act*, which dials with a blocking socket and returns what it received, to a device."""

    def dial(address: tuple[str, int]) -> str:
        with socket.create_connection(address, timeout=5) as sock:
            return act(sock)

    with listen() as listener:
        return Outcome(
            *await asyncio.gather(
                serve_once(listener, server, seconds), asyncio.to_thread(dial, listener.getsockname())
            )
        )


async def meet_server(
    client: Credentials, act: Callable[[socket.socket], str], seconds: float = 5.0
) -> Outcome:
    """Connect a device to *act*, which accepts on a blocking socket and returns what it received."""

    def accept(listener: socket.socket) -> str:
        sock, _ = listener.accept()
        with sock:
            sock.settimeout(5)
            return act(sock)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(5)
        return Outcome(
            *await asyncio.gather(
                asyncio.to_thread(accept, listener),
                dial_once(listener.getsockname(), client, seconds=seconds),
            )
        )


@pytest.fixture
def lab(tmp_path: Path) -> dict[str, Credentials]:
    """Two valid devices, one expired, one not valid yet."""
    now = datetime.now(UTC)
    return (
        make_federation(tmp_path / "lab", "ant", "bee")
        | make_federation(tmp_path / "lab", "old", now=now - 2 * YEAR)
        | make_federation(tmp_path / "lab", "unborn", now=now + 2 * YEAR)
    )


@pytest.fixture
def stranger(tmp_path: Path) -> Credentials:
    """A device of another federation that happens to have the same name."""
    return make_federation(tmp_path / "other", "cow", federation="lab")["cow"]


@pytest.mark.parametrize("protocol", [CONTROL_ALPN, BLOB_ALPN])
async def test_two_devices_of_one_federation_authenticate_and_agree_on_a_protocol(
    lab: dict[str, Credentials], protocol: str
) -> None:
    assert await meet(lab["ant"], lab["bee"], protocol) == (f"bee node {protocol}", f"ant node {protocol}")


async def test_a_role_comes_from_the_certificate(lab: dict[str, Credentials], tmp_path: Path) -> None:
    watcher = make_federation(tmp_path / "lab", "owl", role="observer")["owl"]
    assert (await meet(lab["ant"], watcher)).server == f"owl observer {CONTROL_ALPN}"


async def test_a_common_protocol_is_required(lab: dict[str, Credentials]) -> None:
    server, client = await meet(lab["ant"], lab["bee"], "p2pfl/99")
    assert server.startswith("This device refused bee (")
    assert client.startswith("This device refused ant (")
    assert "shares no version of the protocol" in server


@pytest.mark.parametrize("stranger_dials", [False, True])
async def test_another_ca_is_named_as_the_reason_on_both_sides(
    lab: dict[str, Credentials], stranger: Credentials, stranger_dials: bool
) -> None:
    pair = (lab["ant"], stranger) if stranger_dials else (stranger, lab["ant"])
    server, client = await meet(*pair)
    # The dialer sees the other certificate first, so it is the one that refuses.
    assert client.startswith("This device refused the other side: its certificate was signed by another CA")
    assert server.startswith("The other side refused this device: the certificate of")
    assert "was signed by another CA" in server


async def test_a_refused_dialer_learns_so_with_its_first_read(
    lab: dict[str, Credentials], stranger: Credentials, tmp_path: Path
) -> None:
    two_faced = replace(stranger, authority_path=lab["ant"].authority_path)
    server, client = await meet(lab["ant"], two_faced)
    assert server.startswith("This device refused the other side: its certificate was signed by another CA")
    assert client.startswith(
        "The other side refused this device: the certificate of cow was signed by another CA"
    )


async def test_the_alert_arrives_although_the_refused_side_still_sends(
    lab: dict[str, Credentials], stranger: Credentials
) -> None:
    context = foreign_context(ssl.PROTOCOL_TLS_CLIENT, stranger)
    context.load_verify_locations(lab["ant"].authority_path)

    def pour(sock: socket.socket) -> str:
        with context.wrap_socket(sock) as tls:
            try:
                select.select([tls], [], [], 5)  # the alert has come, unread, and we go on
                for _ in range(200):
                    tls.sendall(b"x" * 1000)
                return repr(tls.recv(1))
            except OSError as error:
                return explain(error, stranger, dialing=True)

    _, client = await meet_client(lab["ant"], pour)
    assert "was signed by another CA" in client


@pytest.mark.parametrize(("device", "fault"), [("old", "has expired"), ("unborn", "is not valid yet")])
@pytest.mark.parametrize("dials", [False, True])
async def test_an_out_of_date_certificate_shows_clock_and_dates_on_both_sides(
    lab: dict[str, Credentials], device: str, fault: str, dials: bool
) -> None:
    bad = lab[device]
    outcome = await meet(lab["ant"], bad) if dials else await meet(bad, lab["ant"])
    refused, refusing = (outcome.client, outcome.server) if dials else (outcome.server, outcome.client)
    assert refusing.startswith(
        f"This device refused the other side: its certificate {fault} by this device's clock"
    )
    assert refused.startswith(
        f"The other side refused this device: the certificate of {device} {fault} by the other"
    )
    today = datetime.now(UTC).strftime("%Y-%m-")
    assert f"clock, which shows {today}" in refusing
    assert f"this device's clock shows {today}" in refused
    assert show_time(bad.not_before) in refused
    assert show_time(bad.not_after) in refused


@pytest.mark.parametrize(
    "words", [b"hello, is anybody there?\n", b"GET / HTTP/1.1\r\n\r\n", bytes(range(255, -1, -1)) * 4]
)
async def test_bytes_that_are_not_tls_are_answered_in_plain_text(
    lab: dict[str, Credentials], words: bytes
) -> None:
    def talk(sock: socket.socket) -> str:
        sock.sendall(words)
        return sock.makefile("rb").read().decode()

    server, client = await meet_client(lab["ant"], talk)
    assert server.startswith("This device refused the other side: it does not speak TLS.")
    assert client == PLAIN_TEXT_REPLY.decode()


async def test_a_flood_without_tls_ends_the_handshake(lab: dict[str, Credentials]) -> None:
    def flood(sock: socket.socket) -> str:
        with contextlib.suppress(ConnectionError):
            sock.sendall(b"\xaa" * 2**20)
        return "sent"

    assert (await meet_client(lab["ant"], flood)).server.startswith(
        "This device refused the other side: it does not"
    )


async def test_a_server_without_tls_is_refused(lab: dict[str, Credentials]) -> None:
    def greet(sock: socket.socket) -> str:
        sock.sendall(b"220 mail.example ready\r\n")
        return "greeted" if sock.makefile("rb").read() else "hung up"

    server, client = await meet_server(lab["ant"], greet)
    assert server == "greeted"
    assert client.startswith("This device refused the other side: it does not speak TLS.")


def wrapped(sock: socket.socket, context: ssl.SSLContext, credentials: Credentials) -> str:
    """Perform a TLS handshake with another context, and explain its result."""
    server = context.protocol == ssl.PROTOCOL_TLS_SERVER
    try:
        with context.wrap_socket(sock, server_side=server) as tls:
            return tls.recv(10).decode()
    except OSError as error:
        return explain(error, credentials, dialing=not server)


def foreign_context(side: int, credentials: Credentials, *, certificate: bool = True) -> ssl.SSLContext:
    """Return the context of another program with a device's credentials."""
    context = ssl.SSLContext(side)
    context.check_hostname = False
    context.load_verify_locations(credentials.authority_path)
    if certificate:
        context.load_cert_chain(credentials.certificate_path, credentials.key_path)
    return context


async def test_a_dialer_with_tls_1_2_is_refused_on_both_sides(lab: dict[str, Credentials]) -> None:
    context = foreign_context(ssl.PROTOCOL_TLS_CLIENT, lab["bee"])
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    server, client = await meet_client(lab["ant"], lambda sock: wrapped(sock, context, lab["bee"]))
    assert server.startswith("This device refused the other side: it does not speak TLS 1.3")
    assert client.startswith("The other side refused this device: it does not speak TLS 1.3")


async def test_a_server_with_tls_1_2_is_refused_on_both_sides(lab: dict[str, Credentials]) -> None:
    context = foreign_context(ssl.PROTOCOL_TLS_SERVER, lab["bee"])
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    server, client = await meet_server(lab["ant"], lambda sock: wrapped(sock, context, lab["bee"]))
    assert server.startswith("This device refused the other side: it does not speak TLS 1.3")
    assert client.startswith("The other side refused this device: it does not speak TLS 1.3")


async def test_a_dialer_without_a_certificate_is_refused_on_both_sides(lab: dict[str, Credentials]) -> None:
    context = foreign_context(ssl.PROTOCOL_TLS_CLIENT, lab["bee"], certificate=False)
    server, client = await meet_client(lab["ant"], lambda sock: wrapped(sock, context, lab["bee"]))
    assert server.startswith("This device refused the other side: it sent no certificate.")
    assert client == "The other side refused this device: it requires a certificate and got none."


async def test_a_certificate_without_authority_key_identifier_fails_the_strict_check(
    lab: dict[str, Credentials], tmp_path: Path
) -> None:
    key = generate_key()
    authority_key = read_key(tmp_path / "lab" / "ca.key")
    lax = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "lax")]))
        .issuer_name(read_certificate(lab["ant"].authority_path).subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(lab["ant"].not_before)
        .not_valid_after(lab["ant"].not_after)
        .sign(authority_key, hashes.SHA256())
    )
    write_key(tmp_path / "lax.key", key)
    write_file(tmp_path / "lax.crt", lax.public_bytes(Encoding.PEM))
    credentials = replace(lab["bee"], key_path=tmp_path / "lax.key", certificate_path=tmp_path / "lax.crt")
    assert "does not pass" in (await meet(lab["ant"], credentials)).server


async def test_a_silent_peer_ends_the_handshake_in_time(lab: dict[str, Credentials]) -> None:
    def stay_silent(sock: socket.socket) -> str:
        return "closed" if sock.recv(1) == b"" else "open"

    server, client = await meet_client(lab["ant"], stay_silent, seconds=0.05)
    assert server.startswith("The other side did not answer in time")
    assert client == "closed"


async def test_a_closed_connection_is_distinguished_from_a_refusal(lab: dict[str, Credentials]) -> None:
    server, _ = await meet_client(lab["ant"], lambda sock: "bye")
    _, client = await meet_server(lab["ant"], lambda sock: "bye")
    assert server.startswith("The other side closed the connection before it identified itself")
    assert client.startswith("The other side closed the connection without a reason")


async def test_a_cancelled_handshake_closes_its_socket(lab: dict[str, Credentials]) -> None:
    listener = listen()
    with listener, socket.create_connection(listener.getsockname()) as client:
        client.setblocking(False)
        loop = asyncio.get_running_loop()
        serving = asyncio.create_task(serve_once(listener, lab["ant"]))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.05):
                await serving
        assert serving.cancelled()
        async with asyncio.timeout(5):
            assert await loop.sock_recv(client, 1) == b""


def test_a_session_cannot_be_resumed(lab: dict[str, Credentials]) -> None:
    assert server_context(lab["ant"]).num_tickets == 0


def test_a_missing_key_is_named(lab: dict[str, Credentials]) -> None:
    lab["ant"].key_path.unlink()
    with pytest.raises(CredentialsError, match=r"lab/ant cannot be used"):
        server_context(lab["ant"])


async def test_devices_meet_below_the_ca_of_an_organisation_and_what_it_issues_is_refused(
    tmp_path: Path,
) -> None:
    key = generate_key()
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    organisation = read_parent_authority(*parent(tmp_path, key, extensions=[identifier]))
    create_authority(tmp_path / "lab", "lab", parent=organisation)
    ant, bee = (read_credentials(issue(tmp_path / "lab", name)) for name in ("ant", "bee"))
    met = await meet(ant, bee, CONTROL_ALPN)
    assert (met.server, met.client) == ("bee node p2pfl/2", "ant node p2pfl/2")

    as_authority = Authority(tmp_path, key, organisation.certificate, "lab")
    shown = sign(as_authority, read_certificate(bee.certificate_path).public_key(), "bee", "node")
    write_file(tmp_path / "bee.crt", shown.public_bytes(Encoding.PEM))
    impostor = replace(bee, certificate_path=tmp_path / "bee.crt")
    assert "was signed by another CA" in (await meet(ant, impostor)).server
