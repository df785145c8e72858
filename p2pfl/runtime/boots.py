"""The memory of other nodes' starts that the mesh asks, on a disk that may refuse.

The mesh must not link a node whose start it cannot remember: a copy of that node's journal would go unnoticed
later. It knows no journal, though, and a full disk is no fault of the peer at the door: the node ends, and
says why.
"""

from __future__ import annotations

from collections.abc import Callable

from p2pfl.errors import DataDirectoryError, HandshakeRefused
from p2pfl.messages import Member
from p2pfl.net.peers import BootMemory


class Boots:
    """Starts of other nodes, remembered by *journal*; a refusing disk is told to *fail*."""

    def __init__(self, journal: BootMemory, fail: Callable[[DataDirectoryError], None]) -> None:
        self._journal = journal
        self._fail = fail

    def seen_boot(self, member: Member) -> tuple[int, str] | None:
        """Return the highest boot count seen of *member* and its nonce."""
        return self._journal.seen_boot(member)

    def save_boot(self, member: Member, boot: int, nonce: str) -> None:
        """Remember them; durable on return.

        Raises:
            HandshakeRefused: the disk refused; the node ends.
        """
        try:
            self._journal.save_boot(member, boot, nonce)
        except DataDirectoryError as error:
            self._fail(error)
            raise HandshakeRefused(
                "this node's disk takes nothing any more, so it links nobody; it ends and says why"
            ) from error
