"""Keeps the file of the nodes that this device has met: read at the start, saved after new links.

It is saved seldom, in a thread. A file that cannot be written costs the node nothing now: it is logged once.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from p2pfl import events
from p2pfl.errors import CredentialsError, UserError
from p2pfl.identity.known_peers import KnownPeer, read_known_peers, save_known_peers
from p2pfl.net.transport.addresses import Address, parse_address

logger = logging.getLogger(__name__)

SAVE_SECONDS = 5.0
"""Between two saves: the links of a whole federation at its start share one."""

FORGOTTEN_AFTER = 30 * 24 * 3600.0
"""Seconds after its last link from which a node is not waited for any more: the device was probably retired.
It is still dialled, and waited for again after its next link."""

MAX_ADDRESSES = 6
"""Addresses of a node that are kept, the most likely first."""

MAX_ADDRESS_CHARACTERS = 100
"""Longer addresses are not kept: so the file of the most nodes stays within the size that is read."""


class MetPeers:
    """The nodes that this device has met. `write` is a sink of the publisher."""

    def __init__(
        self,
        folder: Path,
        addresses: Callable[[str], Sequence[Address]],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Keep the file in the device's *folder*; *addresses* returns where a linked node may be reached."""
        self._folder = folder
        self._addresses = addresses
        self._clock = clock
        self._new: dict[str, KnownPeer] = {}
        """Those to be saved."""
        self._linked: dict[str, str] = {}
        """Names of the nodes that are linked now."""
        self._has_news = asyncio.Event()
        self._is_refused = False

    def write(self, published: events.Published) -> None:
        """Take the next event."""
        match published.event:
            case events.PeerLinked(node=node, name=name):
                self._linked[node] = name
                self._note(node, name)
            case events.PeerLost(node=node, name=name):
                self._linked.pop(node, None)
                self._note(node, name)
            case _:
                pass

    async def run(self) -> None:
        """Save the file after news, for ever."""
        while True:
            await self._has_news.wait()
            await self._save()
            await asyncio.sleep(SAVE_SECONDS)

    async def close(self) -> None:
        """Save the nodes that are linked now, for the last time."""
        for node, name in list(self._linked.items()):
            self._note(node, name)
        if self._new:
            await self._save()

    def _note(self, node: str, name: str) -> None:
        texts = (str(address) for address in self._addresses(node))
        kept = tuple(text for text in texts if len(text) <= MAX_ADDRESS_CHARACTERS)[:MAX_ADDRESSES]
        self._new[node] = KnownPeer(node, name[:64], kept, self._clock())
        self._has_news.set()

    async def _save(self) -> None:
        self._has_news.clear()
        new, self._new = self._new, {}
        try:
            await asyncio.to_thread(self._merge, new)
        except CredentialsError as error:
            if not self._is_refused:
                self._is_refused = True
                logger.warning("the nodes that this device met are not kept: %s", error)

    def _merge(self, new: dict[str, KnownPeer]) -> None:
        """Add *new* to what is in the file now: a command may have changed it."""
        save_known_peers(self._folder, {**read_known_peers(self._folder), **new}.values())


def linked_lately(peers: Mapping[str, KnownPeer], now: float) -> dict[str, KnownPeer]:
    """Return those of *peers*, by node id, that are waited for before a run."""
    return {node: peer for node, peer in peers.items() if peer.at >= now - FORGOTTEN_AFTER}


def addresses_of(peer: KnownPeer) -> list[Address]:
    """Return the addresses of *peer*; those that are none are left out."""
    parsed = []
    for text in peer.addresses:
        try:
            parsed.append(parse_address(text))
        except UserError as error:
            logger.debug("an address in the file of known nodes is ignored: %s", error)
    return parsed
