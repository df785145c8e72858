"""Makes a bulk connection to a holder, whichever of the two sides can dial the other.

Where this node cannot dial the holder, it asks the holder over the link to dial back.
"""

from __future__ import annotations

import asyncio

from p2pfl.errors import NetworkError
from p2pfl.net.bulk.dial_back import Calls
from p2pfl.net.bulk.dialler import BulkConnection, BulkDialler, Undialled
from p2pfl.net.bulk.holders import Barred, Holder, Way, Ways
from p2pfl.net.transport.receiver import Receiver
from p2pfl.net.transport.tasks import AllFailed, Attempt, race
from p2pfl.net.transport.traffic import Traffic


class HolderUnreachableError(NetworkError):
    """No bulk connection to a node could be made in either direction; the message names it."""


class Reach:
    """Makes bulk connections to holders."""

    def __init__(self, dialler: BulkDialler, calls: Calls, traffic: Traffic) -> None:
        self._dialler = dialler
        self._calls = calls
        self._traffic = traffic
        self._ways = Ways()
        self._barred = Barred()

    async def connect(self, holder: Holder) -> BulkConnection:
        """Return a new connection to *holder*.

        Raises:
            Unreached: there is no way; the message says what was tried.
        """
        clock = asyncio.get_running_loop().time
        node, began = holder.node, clock()
        if (reason := self._barred.reason(node, began)) is not None:
            raise HolderUnreachableError(reason)
        order, head_start = self._ways.plan(node, began)
        attempts: dict[Way, Attempt[BulkConnection]] = {
            "dial": lambda: self._dial(holder),
            "call": lambda: self._calls.call(node),
        }
        try:
            number, connection = await race(
                [attempts[way] for way in order], head_start, lambda late: late.transport.abort()
            )
        except AllFailed as error:
            reason = why_unreached(holder, dict(zip(order, error.errors, strict=True)))
            self._barred.failed(node, reason, began, clock())
            raise HolderUnreachableError(reason) from error
        self._ways.worked(node, order[number], clock())
        self._traffic.watch("bulk", node, connection.receiver.meter)
        return connection

    def is_barred(self, node: str) -> bool:
        """Whether *node* was not to be reached just now, and is not tried again yet."""
        return self._barred.reason(node, asyncio.get_running_loop().time()) is not None

    def linked(self, node: str, *, dialled: bool) -> None:
        """Take note of a new link to *node*, *dialled* by this one: what did not work may work now."""
        self._barred.forget(node)
        if dialled:
            self._ways.forget(node)

    def unlinked(self, node: str) -> None:
        """Take note that the link to *node* has ended, and with it all calls."""
        self._calls.forget(node)

    async def _dial(self, holder: Holder) -> BulkConnection:
        transport, receiver, _ = await self._dialler.dial(holder.node, holder.addresses, Receiver)
        return BulkConnection(holder.node, transport, receiver)


def why_unreached(holder: Holder, errors: dict[Way, NetworkError]) -> str:
    """Say why neither way led to *holder*, and what people can do."""
    dialled, called = errors["dial"], errors["call"]
    if isinstance(dialled, Undialled) and dialled.port is not None and not dialled.is_answered:
        return f"{holder.name} {dialled}: does its firewall let port {dialled.port} in? And {called}"
    return f"{holder.name} {dialled}, and {called}"
