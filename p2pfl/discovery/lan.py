"""The local network as the rest of p2pfl uses it: announce a service, follow those of others.

::

    async with lan(interfaces) as network, network.announced(service):
        async with network.browsing("node", on_change):
            ...

The interfaces are looked at every few seconds: a device that gets another address announces it at once. A
device that does not hear its own announcement is told so: multicast from or to it is blocked.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial

from p2pfl.discovery.interfaces import Interface, usable_interfaces
from p2pfl.discovery.responder import OnChange, Responder, ZeroconfResponder
from p2pfl.discovery.services import Found, Service, ServiceKind
from p2pfl.errors import NetworkError

logger = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
"""Between two looks at the interfaces of this device: a new address is announced within seconds."""

HEARD_SECONDS = 5.0
"""After an announcement: time until this device must have heard it. Its first packets take one second."""

BLOCKED = (
    "this device does not hear its own mDNS announcement: its firewall (UDP port 5353) or its network blocks "
    "multicast, so it may neither find other devices nor be found"
)
"""The network does not carry multicast, as far as this device can tell."""

NO_INTERFACE = (
    "this device has no network interface that leads to other devices now, so it cannot be found; it looks "
    "again every few seconds"
)

OnTrouble = Callable[[str], None]
"""Takes a sentence without capital and full stop about why discovery does not work; empty: it works again."""


class Lan:
    """The services of the local network. Get one from `lan`."""

    def __init__(
        self,
        responder: Responder,
        interfaces: Sequence[Interface],
        on_trouble: OnTrouble,
        on_move: Callable[[], None],
    ) -> None:
        self._responder = responder
        self._interfaces = tuple(interfaces)
        self._on_trouble = on_trouble
        self._on_move = on_move
        self._trouble = ""
        self._own: set[str] = set()
        """Instances of this device, which are not passed on to those who browse."""

    @contextlib.asynccontextmanager
    async def announced(self, service: Service) -> AsyncIterator[None]:
        """Announce *service* until the end of the block.

        Raises:
            NetworkError: it cannot be announced; the message is half a sentence.
        """
        heard = asyncio.Event()
        instance = await self._responder.announce(service, self._interfaces)
        self._own.add(instance)

        def notice(found: str, what: Found | None) -> None:
            if found == instance and what is not None:
                heard.set()

        end = self._responder.browse(service.kind, notice)
        listening = asyncio.create_task(self._listen(heard))
        try:
            yield
        finally:
            listening.cancel()
            end()
            await self._responder.withdraw(instance)
            self._own.discard(instance)

    @contextlib.asynccontextmanager
    async def browsing(self, kind: ServiceKind, on_change: OnChange) -> AsyncIterator[None]:
        """Call *on_change* with each service of *kind* of other devices until the end of the block."""

        def pass_on(instance: str, found: Found | None) -> None:
            if instance not in self._own:
                on_change(instance, found)

        end = self._responder.browse(kind, pass_on)
        try:
            yield
        finally:
            end()

    async def follow_interfaces(self, look: Callable[[], Sequence[Interface]]) -> None:
        """Move to other interfaces or addresses whenever *look* returns others, for ever."""
        if not self._interfaces:
            self._report(NO_INTERFACE)
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await self.move(tuple(look()))

    async def move(self, interfaces: Sequence[Interface]) -> None:
        """Use *interfaces* from now on, if they are others than before."""
        if tuple(interfaces) == self._interfaces:
            return
        self._interfaces = tuple(interfaces)
        logger.info("mDNS uses %s", _show(self._interfaces))
        self._on_move()
        try:
            await self._responder.move(self._interfaces)
        except NetworkError as error:
            self._report(str(error))
        else:
            self._report("" if self._interfaces else NO_INTERFACE)

    async def _listen(self, heard: asyncio.Event) -> None:
        """Report that an announcement is not heard in time, and later that it is."""
        try:
            async with asyncio.timeout(HEARD_SECONDS):
                await heard.wait()
        except TimeoutError:
            if self._interfaces:
                self._report(BLOCKED)
            await heard.wait()
            self._report("")

    def _report(self, trouble: str) -> None:
        if trouble != self._trouble:
            self._trouble = trouble
            self._on_trouble(trouble)


@contextlib.asynccontextmanager
async def lan(
    names: Sequence[str] = (),
    on_trouble: OnTrouble = lambda _: None,
    on_move: Callable[[], None] = lambda: None,
    *,
    look: Callable[[Sequence[str]], Sequence[Interface]] = usable_interfaces,
    open_responder: Callable[[Sequence[Interface]], Responder] = ZeroconfResponder,
) -> AsyncIterator[Lan]:
    """Open the local network on the interfaces with the given *names* (default: those that lead to others).

    *on_trouble* is told why devices cannot find each other, and when they can again; *on_move* is called when
    this device has other addresses.

    Raises:
        NetworkError: the system does not permit mDNS; the message is half a sentence.
    """
    interfaces = look(names)
    logger.info("mDNS uses %s", _show(interfaces))
    responder = open_responder(interfaces)
    network = Lan(responder, interfaces, on_trouble, on_move)
    following = asyncio.create_task(network.follow_interfaces(partial(look, names)))
    try:
        yield network
    finally:
        following.cancel()
        await responder.close()


def _show(interfaces: Sequence[Interface]) -> str:
    return ", ".join(f"{one.name} ({', '.join(one.addresses)})" for one in interfaces) or "no interface"
