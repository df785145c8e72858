"""Who sent wrong bytes: not asked for that blob again, and named to people.

A holder that alone sent all bytes of a blob whose digest is wrong, or announced another length, has a damaged
disk or lies. The next pull does not ask it again for a while, since the whole blob would be pulled in vain;
not for ever, since a holder that has noticed the damage pulls the blob anew itself. Pure: the caller brings
the time.
"""

from __future__ import annotations

import logging
from typing import TypeVar

from p2pfl.errors import PeerError

logger = logging.getLogger(__name__)

FORGET_SECONDS = 60.0
"""Until a holder is asked for the same blob again."""

REPEAT_SECONDS = 60.0
"""Between two lines in the log about one holder."""

MAX_REMEMBERED = 1024
"""Pairs of holder and blob, and holders in the log; the oldest is forgotten first."""

_KeyT = TypeVar("_KeyT")
_ValueT = TypeVar("_ValueT")


class Blame:
    """What holders are to blame for."""

    def __init__(self) -> None:
        self._wrong: dict[tuple[str, str], tuple[float, PeerError]] = {}
        """Until when, and for what, by node id and digest."""
        self._told: dict[str, float] = {}
        """When the log may name a node again, by node id."""

    def blame(self, node: str, name: str, digest: str, error: PeerError, now: float) -> None:
        """Take note that *node*, called *name*, gave wrong bytes for blob *digest*."""
        _keep(self._wrong, (node, digest), (now + FORGET_SECONDS, error))
        if now < self._told.get(node, now):
            return
        _keep(self._told, node, now + REPEAT_SECONDS)
        logger.warning(
            "%s gave wrong bytes and is not asked for that blob again: %s. Its disk may be damaged.",
            name,
            error,
        )

    def error(self, node: str, digest: str, now: float) -> PeerError | None:
        """Return what *node* was blamed for if it is not to be asked for blob *digest* yet."""
        until, error = self._wrong.get((node, digest), (now, None))
        return error if now < until else None


def _keep(memory: dict[_KeyT, _ValueT], key: _KeyT, value: _ValueT) -> None:
    """Put a value into a bounded memory, as the newest."""
    memory.pop(key, None)
    memory[key] = value
    if len(memory) > MAX_REMEMBERED:
        del memory[next(iter(memory))]
