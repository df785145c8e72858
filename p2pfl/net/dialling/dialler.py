"""Dials every listed address and every known node until it is linked, and again after a link is lost.

A *target* is a listed address (whichever node answers there), a node (at any of its addresses), or a service
found in the local network (whichever node answers at its addresses). Each target has its own task and its own
retry delay, which doubles with every failure and is reset after a link. In the first half minute it stays
short, except for nodes that only peers have named and for services. A node of another version is dialled
seldom: it refuses every time, until one of the two is upgraded.

Peers may send any number of node ids. A node that was never linked is *unproven*: a peer may name a bounded
number of them, few are dialled at a time, and one that is not reached after some attempts is dropped until a
peer names it again. Anybody in the local network can announce a service: their number is bounded too, and few
are dialled at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from p2pfl.config import NetSettings
from p2pfl.errors import NetworkError, VersionRefused
from p2pfl.net.transport.addresses import Address

logger = logging.getLogger(__name__)

MAX_FOUND = 64
"""Services of the local network that are dialled: more than devices of a federation are in one room."""

DialAttempt = Callable[[Address, str | None], Awaitable[str]]
"""Dials an address where a node is expected (None: any node); returns the node reached there. Raises
`NetworkError` if there is none, `VersionRefused` if that node's version does not fit. Any other exception is
unexpected: it is logged, and dialling continues."""


@dataclass(frozen=True)
class FoundService:
    """The key of a service in the local network."""

    name: str


TargetKey = Address | str | FoundService
"""Identifies a target: a listed address, a node id, or a service."""


class DialListener(Protocol):
    """Is told how dialling goes."""

    def begins(self, key: TargetKey) -> None:
        """Take that a target is dialled now."""

    def reached(self, key: TargetKey, node: str) -> None:
        """Take the *node* that was reached for a target."""

    def failed(self, key: TargetKey, address: Address, error: NetworkError, delay: float) -> None:
        """Take why a dial reached nobody; *address* is the first one, *delay* the seconds until the next."""


@dataclass
class _DialTarget:
    """The target of one dialling task."""

    key: TargetKey
    addresses: tuple[Address, ...]
    """Where any node may answer; empty: the target is a node, whose addresses are in the book."""
    node: str | None
    """The node to reach, or the one that answered last."""
    delay: float
    """Seconds until the next dial."""
    source: str | None = None
    """The peer that named it; None once it was linked, or if no peer did."""
    attempts: int = 0
    """How often all its addresses failed while it was unproven."""
    error: str = ""
    """The last unexpected error in dialling it, which is logged once."""
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    since: float = field(default_factory=lambda: asyncio.get_running_loop().time())
    """When dialling it began."""

    @property
    def is_unproven(self) -> bool:
        """Whether only others say that it is there: a peer that named it, or whoever announced a service."""
        return self.source is not None or isinstance(self.key, FoundService)


def next_delay(delay: float, age: float, settings: NetSettings, *, is_unproven: bool) -> float:
    """Return the wait after one of *delay* seconds, for a target that has been dialled for *age* seconds."""
    longest = settings.redial_max_seconds
    if age < settings.redial_early_seconds and not is_unproven:
        longest = min(longest, settings.redial_early_max_seconds)
    return min(max(delay * 2, settings.redial_first_seconds), longest)


class Dialler:
    """The dialling tasks of a node."""

    def __init__(
        self,
        attempt: DialAttempt,
        addresses: Callable[[str], Sequence[Address]],
        is_linked: Callable[[str], bool],
        own_node: str,
        settings: NetSettings,
        listener: DialListener,
        forget: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Dial nothing yet; *forget* is called with an unproven node that is dropped."""
        self._attempt = attempt
        self._addresses = addresses
        self._is_linked = is_linked
        self._own_node = own_node
        self._settings = settings
        self._listener = listener
        self._forget_node = forget
        self._targets: dict[asyncio.Task[None], _DialTarget] = {}
        self._nodes: dict[str, _DialTarget] = {}
        """The targets that are nodes, by node id."""
        self._services: dict[FoundService, asyncio.Task[None]] = {}
        """The tasks of the services."""
        self._unproven: Counter[str] = Counter()
        """By peer, how many nodes it named that were never linked."""
        self._slots = asyncio.Semaphore(settings.max_unproven_dials)
        self._slots_of: dict[str, asyncio.Semaphore] = {}
        """By peer, the same for the nodes it named, so that it cannot delay those of another peer."""
        self._service_slots = asyncio.Semaphore(settings.max_unproven_dials_of_peer)
        """The same for the services of the local network."""

    def add_listed(self, address: Address) -> None:
        """Keep dialling *address*, until it turns out to be this node itself."""
        self._start(_DialTarget(address, (address,), None, self._settings.redial_first_seconds))

    def add_service(
        self, service: FoundService, addresses: Sequence[Address], node: str | None = None
    ) -> bool:
        """Keep dialling *service* at *addresses*; if it is a target already, dial it there now.

        *node* is the node that it probably is. Return False if there are too many services.
        """
        self._services = {key: task for key, task in self._services.items() if task in self._targets}
        task = self._services.get(service)
        if task is not None:
            target = self._targets[task]
            target.addresses = tuple(addresses)
            self._dial_now(target)
            return True
        if len(self._services) >= MAX_FOUND:
            return False
        first = self._settings.redial_first_seconds
        self._services[service] = self._start(_DialTarget(service, tuple(addresses), node, first))
        return True

    def remove_service(self, service: FoundService) -> None:
        """Stop dialling *service*."""
        task = self._services.pop(service, None)
        if task is not None:
            task.cancel()

    def add_node(self, node: str, source: str | None = None) -> bool:
        """Keep dialling *node* at its known addresses; if it is a target already, dial it now.

        *source* is the peer that named it, None if it is or was linked. Return False if that peer has named
        too many nodes that were not reached.
        """
        target = self._nodes.get(node)
        if target is not None:
            if source is None:
                self._prove(target)
            self._dial_now(target)
            return True
        if source is not None:
            if self._unproven[source] >= self._settings.max_unproven:
                return False
            self._unproven[source] += 1
        self._nodes[node] = target = _DialTarget(node, (), node, self._settings.redial_first_seconds, source)
        self._start(target)
        return True

    def link_lost(self, node: str, *, is_version_refused: bool = False) -> None:
        """Dial *node* again: its link has ended.

        That is after the shortest delay, but after a long one if the link ended because of a version.
        """
        settings = self._settings
        delay = settings.redial_version_seconds if is_version_refused else settings.redial_first_seconds
        for target in self._targets.values():
            if target.node == node:
                target.delay = delay
                target.wake.set()

    def dial_now(self) -> None:
        """Dial all targets that are not linked, without delay."""
        for target in self._targets.values():
            self._dial_now(target)

    async def close(self) -> None:
        """Stop dialling."""
        tasks = list(self._targets)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _dial_now(self, target: _DialTarget) -> None:
        target.delay = 0.0
        target.wake.set()

    def _start(self, target: _DialTarget) -> asyncio.Task[None]:
        task = asyncio.create_task(self._keep_dialling(target))
        self._targets[task] = target
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: asyncio.Task[None]) -> None:
        target = self._targets.pop(task)
        self._prove(target)
        if isinstance(target.key, str):
            del self._nodes[target.key]
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error  # a bug: asyncio's exception handler reports it

    def _prove(self, target: _DialTarget) -> None:
        """Count *target* as proven, no longer against the peer that named it."""
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
                if reached is not None:
                    self._listener.reached(target.key, reached)
                    if reached == self._own_node:
                        return
                    target.node = reached
                    target.delay = self._settings.redial_first_seconds
                elif self._has_failed(target):
                    assert target.node is not None, "peers name only nodes"
                    self._forget_node(target.node)
                    return
            await self._wait(target)

    def _has_failed(self, target: _DialTarget) -> bool:
        """Count a failed attempt; return whether an unproven node has reached the limit."""
        if target.source is None:
            return False
        target.attempts += 1
        return target.attempts >= self._settings.max_unproven_tries

    async def _dial_safely(self, target: _DialTarget) -> str | None:
        """Dial *target*; report a failure, log an unexpected error once, and continue dialling."""
        try:
            async with self._slot(target):
                self._listener.begins(target.key)
                return await self._dial(target)
        except Exception as error:
            fault = f"{type(error).__name__}: {error}"
            if fault != target.error:
                target.error = fault
                logger.exception("an error in dialling %s; it is retried", target.key)
            return None

    @contextlib.asynccontextmanager
    async def _slot(self, target: _DialTarget) -> AsyncIterator[None]:
        """Wait for a slot to dial a service, or a node that a peer named; other targets do not wait."""
        if isinstance(target.key, FoundService):
            async with self._service_slots:
                yield
        elif target.source is None:
            yield
        else:
            limit = self._settings.max_unproven_dials_of_peer
            own = self._slots_of.setdefault(target.source, asyncio.Semaphore(limit))
            async with own, self._slots:
                yield

    async def _dial(self, target: _DialTarget) -> str | None:
        """Try the addresses of the target in turn; return the node reached, and report if there is none."""
        expected = target.node if not target.addresses else None
        failed: tuple[Address, NetworkError] | None = None
        assert target.node is not None or target.addresses
        for address in target.addresses or self._addresses(target.node or ""):
            if target.node is not None and self._is_linked(target.node):
                return target.node
            try:
                reached = await self._attempt(address, expected)
            except VersionRefused as error:
                target.delay = self._settings.redial_version_seconds
                self._listener.failed(target.key, address, error, target.delay)
                return None
            except NetworkError as error:
                failed = failed or (address, error)
            else:
                if expected in (None, reached):
                    return reached
        if failed is not None:
            self._listener.failed(target.key, *failed, max(target.delay, self._settings.redial_first_seconds))
        return None

    async def _wait(self, target: _DialTarget) -> None:
        """Wait until the next dial, and double the delay.

        `_dial_now` ends the wait, `link_lost` begins it again with another delay.
        """
        waits = True
        while waits:
            target.wake.clear()
            try:
                async with asyncio.timeout(target.delay):
                    await target.wake.wait()
                waits = target.delay > 0
            except TimeoutError:
                waits = False
        age = asyncio.get_running_loop().time() - target.since
        target.delay = next_delay(target.delay, age, self._settings, is_unproven=target.is_unproven)
