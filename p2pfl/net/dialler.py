"""Keeps dialling: every listed address and every known node, until linked, and again when a link is lost.

A *target* is one listed address (whoever answers there) or one node (at whichever of its addresses). Each has
a task and a wait of its own, which doubles with every failure and starts small again after a link.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from p2pfl.config import NetSettings
from p2pfl.net.addresses import Address

Attempt = Callable[[Address, str | None], Awaitable[str | None]]
"""Dials an address where a node is expected (None: whoever); returns who was reached, None when nobody was.
Never raises for what goes wrong with a connection."""


@dataclass
class _Target:
    """What one task dials."""

    node: str | None
    """The node that is wanted, or, for a listed address, that answered there last."""
    listed: Address | None
    wait: float
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
    ) -> None:
        self._attempt = attempt
        self._addresses = addresses
        self._is_linked = is_linked
        self._own_node = own_node
        self._settings = settings
        self._targets: list[_Target] = []
        self._tasks: dict[asyncio.Task[None], _Target] = {}

    def add_listed(self, address: Address) -> None:
        """Dial *address* from now on, until it turns out to be this node itself."""
        self._start(_Target(None, address, self._settings.redial_first_seconds))

    def add_node(self, node: str) -> None:
        """Dial *node* from now on, wherever the address book says; at once if it is dialled already."""
        for target in self._targets:
            if target.listed is None and target.node == node:
                self._hurry(target)
                return
        self._start(_Target(node, None, self._settings.redial_first_seconds))

    def lost(self, node: str) -> None:
        """Take note that the link to *node* ended: it is dialled after the first, shortest wait."""
        for target in self._targets:
            if target.node == node:
                target.wait = self._settings.redial_first_seconds
                target.wake.set()

    def hurry(self) -> None:
        """Dial everybody who is not linked at once."""
        for target in self._targets:
            self._hurry(target)

    async def close(self) -> None:
        """Stop dialling."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _hurry(self, target: _Target) -> None:
        target.wait = 0.0
        target.wake.set()

    def _start(self, target: _Target) -> None:
        task = asyncio.create_task(self._keep_dialling(target))
        self._targets.append(target)
        self._tasks[task] = target
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._targets.remove(self._tasks.pop(task))
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error  # a fault of ours: asyncio's exception handler reports it

    async def _keep_dialling(self, target: _Target) -> None:
        while True:
            if target.node is not None and self._is_linked(target.node):
                target.wake.clear()
                await target.wake.wait()
            else:
                reached = await self._dial(target)
                if reached == self._own_node:
                    return
                if target.listed is not None:
                    target.node = reached or target.node
                if reached is not None:
                    target.wait = self._settings.redial_first_seconds
            await self._rest(target)

    async def _dial(self, target: _Target) -> str | None:
        """Try the target's addresses in turn; return the node that was reached."""
        if target.listed is not None:
            return await self._attempt(target.listed, None)
        assert target.node is not None, "a target without an address is a node"
        for address in self._addresses(target.node):
            if await self._attempt(address, target.node) == target.node:
                return target.node
        return None

    async def _rest(self, target: _Target) -> None:
        """Wait before the next dial; `_hurry` cuts it short. Each time it doubles."""
        target.wake.clear()
        try:
            async with asyncio.timeout(target.wait):
                await target.wake.wait()
        except TimeoutError:
            target.wait = min(
                max(target.wait * 2, self._settings.redial_first_seconds), self._settings.redial_most_seconds
            )
