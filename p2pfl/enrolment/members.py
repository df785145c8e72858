"""Whom a device that joins can dial: the members that the inviter knows."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature

from p2pfl.config import DEFAULT_PORT
from p2pfl.enrolment.channel import why_broken
from p2pfl.enrolment.frames import MAX_MEMBERS
from p2pfl.errors import HandshakeRefused, NetworkError
from p2pfl.identity.authority import Authority, list_certificates
from p2pfl.identity.credentials import KEY_FILE
from p2pfl.identity.known_peers import KnownPeer, read_known_peers
from p2pfl.identity.peer import PeerIdentity, identify
from p2pfl.net.transport.addresses import Address
from p2pfl.net.transport.sockets import connect
from p2pfl.net.transport.stream import StreamProtocol
from p2pfl.net.transport.tls import CONTROL_ALPN, anonymous_client_context, secure_with
from p2pfl.paths import folders_in, holds_file

DIAL_SECONDS = 5.0

MAX_ADDRESSES = 8
"""As many as a `KnownPeer` has."""


def own_devices(directory: Path, host: str, port: int = DEFAULT_PORT) -> list[KnownPeer]:
    """Return the nodes whose keys are in the CA's folder *directory*: they run on this device, at *host*.

    With *port* 0 nobody knows yet where, and there are none.
    """
    if port == 0:
        return []
    own = [one for one in list_certificates(directory) if holds_file(one.directory / KEY_FILE)]
    address = (str(Address(host, port)),)
    return [KnownPeer(one.node_id, one.name, address, time.time()) for one in own if one.role == "node"]


def known_members(directory: Path) -> list[KnownPeer]:
    """Return the nodes that the devices in the CA's folder *directory* have met."""
    folders = [directory, *folders_in(directory)]
    return [peer for folder in folders for peer in read_known_peers(folder).values()]


def merged(peers: Iterable[KnownPeer], own: str = "") -> tuple[KnownPeer, ...]:
    """Return *peers*, each node once with all its addresses, those of the latest first; without *own*."""
    found: dict[str, KnownPeer] = {}
    for peer in sorted(peers, key=lambda peer: (-peer.at, peer.node)):
        latest = found.get(peer.node, peer)
        addresses = tuple(dict.fromkeys((*latest.addresses, *peer.addresses)))[:MAX_ADDRESSES]
        found[peer.node] = msgspec.structs.replace(latest, addresses=addresses)
    return tuple(peer for peer in found.values() if peer.node != own)[:MAX_MEMBERS]


async def who_is_at(address: Address, authority: Authority) -> KnownPeer:
    """Return the node that answers at *address*, from the certificate that it shows.

    This device shows no certificate, since it may have none, so the node refuses it after that.

    Raises:
        NetworkError: nobody answers there, or nobody of this federation.
    """
    try:
        connection = await connect(address, DIAL_SECONDS)
        transport, _ = await secure_with(
            connection,
            StreamProtocol,
            anonymous_client_context(CONTROL_ALPN),
            why_broken,
            dialing=True,
            seconds=DIAL_SECONDS,
        )
    except NetworkError as error:
        raise NetworkError(f"No node answers at {address}: {error}") from error
    try:
        certificate = transport.get_extra_info("ssl_object").getpeercert(binary_form=True)
    finally:
        transport.abort()
    identity = _identity(certificate, authority)
    return KnownPeer(identity.node_id, identity.name, (str(address),), time.time())


def _identity(certificate: bytes, authority: Authority) -> PeerIdentity:
    try:
        x509.load_der_x509_certificate(certificate).verify_directly_issued_by(authority.certificate)
    except (ValueError, TypeError, InvalidSignature) as error:
        raise HandshakeRefused(
            f"The node there is not of the federation {authority.federation!r}: its certificate is another "
            "CA's."
        ) from error
    return identify(certificate, authority.federation)
