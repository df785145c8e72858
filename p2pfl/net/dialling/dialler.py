"""Keeps dialling: every listed address and every known node, until linked, and again when a link is lost.

A *target* is one listed address (whoever answers there) or one node (at whichever of its addresses). Each has
a task and a wait of its own, which doubles with every failure and starts small again after a link.

Peers may tell of any number of nodes. A node that was never linked is *unproven*: of those a peer can name a
bounded number, few are dialled at a time, and who is not reached in some tries is forgotten until it is told
of again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from p2pfl.config import NetSettings
from p2pfl.net.transport.addresses import Address

logger = logging.getLogger(__name__)

Attempt = Callable[[Address, str | None], Awaitable[str | None]]
"""Dials an address where a node is expected (None: whoever); returns who was reached, None when nobody was.
What it raises is a fault of this program or a whim of the system: it is logged, and the dialling goes on."""


@dataclass
class _DialTarget:
    """What one task dials."""

    node: str | None
    """The node that is wanted, or, for a listed address, that answered there last."""
    listed: Address | None
    wait: float
    source: str | None = None
    """Who told of it; None once it was linked, or where nobody did."""
    tries: int = 0
    """How often all its addresses were dialled in vain while it was unproven."""
    fault: str = ""
    """The last error of this program's own in dialling it: it is logged once."""
    wake: asyncio.Event = field(default_factory=asyncio.Event)


class Dialler:
    """The dialling tasks of a node."""

    def __init__(
        self,
        attempt: Attempt,
        addresses: Callable[[str], Sequence[Address]],
        is_linked: Callable[[str], bool],
        own_node: str,
        settings: NetSettings,
        forget: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Dial nothing yet; *forget* is told of a node that nobody reached, and that is given up."""
        self._attempt = attempt
        self._addresses = addresses
        self._is_linked = is_linked
        self._own_node = own_node
        self._settings = settings
        self._forget_node = forget
        self._targets: dict[asyncio.Task[None], _DialTarget] = {}
        self._nodes: dict[str, _DialTarget] = {}
        """The targets that are nodes."""
        self._unproven: Counter[str] = Counter()
        """By peer, nodes it told of that were never linked."""
        self._slots = asyncio.Semaphore(settings.max_unproven_dials)
        self._slots_of: dict[str, asyncio.Semaphore] = {}
        """By peer; the same for the nodes it told of: it cannot keep those of another peer waiting."""

    def add_listed(self, address: Address) -> None:
        """Dial *address* from now on, until it turns out to be this node itself."""
        self._start(_DialTarget(None, address, self._settings.redial_first_seconds))

    def add_node(self, node: str, source: str | None = None) -> bool:
        """Dial *node* from now on, wherever the address book says; at once if it is dialled already.

        *source* is the peer that told of it, None where it is or was linked. Return False where that peer has
        told of too many that were not reached.
        """
        target = self._nodes.get(node)
        if target is not None:
            if source is None:
                self._prove(target)
            self._hurry(target)
            return True
        if source is not None:
            if self._unproven[source] >= self._settings.max_unproven:
                return False
            self._unproven[source] += 1
        self._nodes[node] = target = _DialTarget(node, None, self._settings.redial_first_seconds, source)
        self._start(target)
        return True

    def lost(self, node: str) -> None:
        """Take note that the link to *node* ended: it is dialled after the first, shortest wait."""
        for target in self._targets.values():
            if target.node == node:
                target.wait = self._settings.redial_first_seconds
                target.wake.set()

    def hurry(self) -> None:
        """Dial everybody who is not linked at once."""
        for target in self._targets.values():
            self._hurry(target)

    async def close(self) -> None:
        """Stop dialling."""
        tasks = list(self._targets)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _hurry(self, target: _DialTarget) -> None:
        target.wait = 0.0
        target.wake.set()

    def _start(self, target: _DialTarget) -> None:
        task = asyncio.create_task(self._keep_dialling(target))
        self._targets[task] = target
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[None]) -> None:
        target = self._targets.pop(task)
        self._prove(target)
        if target.listed is None and target.node is not None:
            del self._nodes[target.node]
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error  # a fault of ours: asyncio's exception handler reports it

    def _prove(self, target: _DialTarget) -> None:
        """Take *target* off the account of the peer that told of it."""
        source, target.source = target.source, None
        if source is not None:
            self._unproven[source] -= 1
            if not self._unproven[source]:
                del self._unproven[source]
                self._slots_of.pop(source, None)

    async def _keep_dialling(self, target: _DialTarget) -> None:
        while True:
            if target.node is not None and self._is_linked(target.node):
                target.wake.clear()
                await target.wake.wait()
            else:
                reached = await self._dial_safely(target)
                if reached == self._own_node:
                    return
                if target.listed is not None:
                    target.node = reached or target.node
                if reached is not None:
                    target.wait = self._settings.redial_first_seconds
                elif self._is_hopeless(target):
                    assert target.node is not None, "only nodes are told of"
                    self._forget_node(target.node)
                    return
            await self._rest(target)

    def _is_hopeless(self, target: _DialTarget) -> bool:
        """Whether a node that was never linked was dialled in vain often enough."""
        if target.source is None:
            return False
        target.tries += 1
        return target.tries >= self._settings.max_unproven_tries

    async def _dial_safely(self, target: _DialTarget) -> str | None:
        """Dial *target*; an error nobody foresaw is logged once, and is no reason to stop dialling."""
        try:
            async with self._slot(target.source):
                return await self._dial(target)
        except Exception as error:
            fault = f"{type(error).__name__}: {error}"
            if fault != target.fault:
                target.fault = fault
                logger.exception("an error in dialling %s; it is tried again", target.listed or target.node)
            return None

    @contextlib.asynccontextmanager
    async def _slot(self, source: str | None) -> AsyncIterator[None]:
        """Wait for a turn to dial a node that *source* told of; for others there is no queue."""
        if source is None:
            yield
            return
        own = self._slots_of.setdefault(source, asyncio.Semaphore(self._settings.max_unproven_dials_of_peer))
        async with own, self._slots:
            yield

    async def _dial(self, target: _DialTarget) -> str | None:
        """Try the target's addresses in turn; return the node that was reached."""
        if target.listed is not None:
            return await self._attempt(target.listed, None)
        assert target.node is not None, "a target without an address is a node"
        for address in self._addresses(target.node):
            if self._is_linked(target.node) or await self._attempt(address, target.node) == target.node:
                return target.node
        return None

    async def _rest(self, target: _DialTarget) -> None:
        """Wait before the next dial; `_hurry` cuts it short. Each time it doubles."""
        target.wake.clear()
        try:
            async with asyncio.timeout(target.wait):
                await target.wake.wait()
        except TimeoutError:
            target.wait = min(
                max(target.wait * 2, self._settings.redial_first_seconds), self._settings.redial_most_seconds
            )
