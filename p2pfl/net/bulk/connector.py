"""Makes a bulk connection to a holder, whichever of the two sides can dial the other.

Where this node cannot dial the holder, it asks the holder over the link to dial back.
"""

from __future__ import annotations

import asyncio

from p2pfl.errors import NetworkError
from p2pfl.net.bulk.dial_back import DialBackRequests
from p2pfl.net.bulk.dialler import BulkConnection, BulkDialler, DialFailedError
from p2pfl.net.bulk.holders import DialBackoff, DialDirections, Direction, Holder
from p2pfl.net.transport.receiver import Receiver
from p2pfl.net.transport.tasks import AllAttemptsFailedError, Attempt, run_staggered
from p2pfl.net.transport.traffic import Traffic


class HolderUnreachableError(NetworkError):
    """Neither side could dial the other; the message names the holder."""


class HolderConnector:
    """Makes bulk connections to holders."""

    def __init__(self, dialler: BulkDialler, dial_backs: DialBackRequests, traffic: Traffic) -> None:
        self._dialler = dialler
        self._dial_backs = dial_backs
        self._traffic = traffic
        self._directions = DialDirections()
        self._backoff = DialBackoff()

    async def connect(self, holder: Holder) -> BulkConnection:
        """Return a new connection to *holder*.

        Raises:
            HolderUnreachableError: neither side could dial; the message says what was tried.
        """
        clock = asyncio.get_running_loop().time
        node, began = holder.node, clock()
        if (reason := self._backoff.reason(node, began)) is not None:
            raise HolderUnreachableError(reason)
        order, delay = self._directions.plan(node, began)
        attempts: dict[Direction, Attempt[BulkConnection]] = {
            "dial": lambda: self._dial(holder),
            "dial back": lambda: self._dial_backs.connect(node),
        }
        try:
            index, connection = await run_staggered(
                [attempts[direction] for direction in order], delay, lambda late: late.transport.abort()
            )
        except AllAttemptsFailedError as error:
            reason = explain_unreachable(holder, dict(zip(order, error.errors, strict=True)))
            self._backoff.failed(node, reason, began, clock())
            raise HolderUnreachableError(reason) from error
        self._directions.worked(node, order[index], clock())
        self._traffic.watch("bulk", node, connection.receiver.meter)
        return connection

    def is_unreachable(self, node: str) -> bool:
        """Whether *node* could not be reached recently and is not tried again yet."""
        return self._backoff.reason(node, asyncio.get_running_loop().time()) is not None

    def linked(self, node: str, *, dialled: bool) -> None:
        """Try *node* again at once: there is a new link to it, which this node *dialled* or accepted."""
        self._backoff.forget(node)
        if dialled:
            self._directions.forget(node)

    def unlinked(self, node: str) -> None:
        """Cancel the dial-back requests to *node*: the link to it has ended."""
        self._dial_backs.cancel(node)

    async def _dial(self, holder: Holder) -> BulkConnection:
        transport, receiver, _ = await self._dialler.dial(holder.node, holder.addresses, Receiver)
        return BulkConnection(holder.node, transport, receiver)


def explain_unreachable(holder: Holder, errors: dict[Direction, NetworkError]) -> str:
    """Explain why neither side could dial the other, and what the user can do."""
    dial, dial_back = errors["dial"], errors["dial back"]
    if isinstance(dial, DialFailedError) and dial.port is not None and not dial.is_answered:
        return f"{holder.name} {dial}: does its firewall let port {dial.port} in? And {dial_back}"
    return f"{holder.name} {dial}, and {dial_back}"
