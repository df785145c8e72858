"""The nodes of the federation that this device has met, and their addresses: a file in the device's folder.

It only says where to dial. Whoever answers at an address must prove its identity with a certificate, so a
wrong entry costs one dial.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from p2pfl.identity.keys import write_file
from p2pfl.paths import holds_file

KNOWN_PEERS_FILE = "known_peers.json"
"""The file's name, in the folder that holds the device's certificate."""

MAX_KNOWN_PEERS = 1024
"""Number of nodes in the file: four times the largest roster. Those that were linked last are kept."""

MAX_TIME = 2.0**36
"""The latest time in it: a date that every system can show."""

MAX_BYTES = 2**20
"""Size of the file beyond which it is ignored."""


class KnownPeer(msgspec.Struct, frozen=True):
    """A node of the federation, as this device met it last."""

    node: Annotated[str, Meta(pattern=r"^[a-z2-7]{52}\Z")]
    """Its node id."""
    name: Annotated[str, Meta(min_length=1, max_length=64)]
    addresses: Annotated[tuple[Annotated[str, Meta(max_length=300)], ...], Meta(max_length=8)]
    """As `parse_address` reads them, the most likely first."""
    at: Annotated[float, Meta(ge=0, le=MAX_TIME)]
    """When it was linked last, or named by the device that let this one join: seconds since the epoch."""


def read_known_peers(folder: Path) -> dict[str, KnownPeer]:
    """Return the nodes in the file of the device's *folder* by node id; none if it is absent or damaged."""
    path = folder / KNOWN_PEERS_FILE
    if not holds_file(path):
        return {}
    try:
        if path.stat().st_size > MAX_BYTES:
            return {}
        peers = msgspec.json.decode(path.read_bytes(), type=list[KnownPeer])
    except (OSError, msgspec.MsgspecError):
        return {}
    return {peer.node: peer for peer in peers}


def save_known_peers(folder: Path, peers: Iterable[KnownPeer]) -> None:
    """Replace the file in the device's *folder*, whole or not at all.

    Raises:
        CredentialsError: it cannot be written.
    """
    latest = sorted(peers, key=lambda peer: (-peer.at, peer.node))[:MAX_KNOWN_PEERS]
    write_file(
        folder / KNOWN_PEERS_FILE, msgspec.json.format(msgspec.json.encode(latest)) + b"\n", mode=0o600
    )
