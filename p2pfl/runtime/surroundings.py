"""The other devices around a node, before and beside a run: whom it knows, finds, dials and waits for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from p2pfl import __version__
from p2pfl.config import PROTOCOL_VERSIONS
from p2pfl.discovery.announcements import NodeAnnouncement
from p2pfl.events import AnyEvent, Notice
from p2pfl.identity.credentials import Credentials, federation_fingerprint
from p2pfl.identity.known_peers import KnownPeer
from p2pfl.net.mesh import Mesh
from p2pfl.net.transport.addresses import parse_address
from p2pfl.net.transport.tasks import BackgroundTasks
from p2pfl.runtime.expectation import NOBODY, Expectation
from p2pfl.runtime.lan_discovery import LanDiscovery
from p2pfl.runtime.met_peers import MetPeers, addresses_of
from p2pfl.runtime.node_config import LanSettings
from p2pfl.runtime.observing.addresses import AddressReporter
from p2pfl.text import one_line

MAX_NAMED = 8
"""Names of awaited nodes in one notice."""


class Surroundings:
    """What a node knows of the devices around it.

    Create it when the mesh has started, then `start` it, finally `close` it.
    """

    def __init__(
        self,
        credentials: Credentials,
        mesh: Mesh,
        publish: Callable[[AnyEvent], None],
        settings: LanSettings,
        expectation: Expectation,
        earlier: Mapping[str, KnownPeer],
        *,
        is_watched: Callable[[], bool],
    ) -> None:
        """Dial the nodes that this device met *earlier*; *is_watched* is whether an observer follows it."""
        self._mesh = mesh
        self._publish = publish
        self._interfaces = settings.interfaces
        self._expectation = expectation
        self._earlier = earlier
        self._tasks = BackgroundTasks()
        self.met = MetPeers(credentials.directory, mesh.known_addresses)
        self._discovery: LanDiscovery | None = None
        if settings.is_on:
            own = NodeAnnouncement(
                federation_fingerprint(credentials), credentials.node_id, __version__, PROTOCOL_VERSIONS
            )
            self._discovery = LanDiscovery(own, mesh.port, mesh, self._names, publish)
        self._reporter = AddressReporter(mesh, publish, is_watched)
        for peer in earlier.values():
            mesh.know(peer.node, one_line(peer.name), addresses_of(peer))

    def start(self) -> None:
        """Announce this node and look for others."""
        self._tasks.start_restarting("saving the known nodes", self.met.run)
        if self._discovery is not None:
            self._tasks.start_restarting("mDNS", partial(self._discover, self._discovery))

    def tell_whom_it_awaits(self) -> None:
        """Say which known nodes a run waits for."""
        names = sorted(one_line(self._earlier[node].name) for node in self._expectation.known)
        if not names:
            return
        more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
        self._publish(
            Notice(
                "info",
                f"waits for the nodes that this device knows: {', '.join(names[:MAX_NAMED])}{more} (to "
                "start with fewer, give --min-nodes; `p2pfl peers forget NAME` removes one)",
            )
        )

    def update(self, *, is_waiting: bool) -> bool:
        """Look again, about once a second; return whether the number of awaited nodes has changed.

        *is_waiting* is whether the node is in no run.
        """
        self._reporter.update()
        found = self._discovery.awaited(self._mesh.links()) if self._discovery is not None else set()
        has_changed = self._expectation.update(self._mesh, found)
        if is_waiting and self._expectation.nobody_is_here():
            self._publish(Notice("info", NOBODY))
        return has_changed

    async def close(self) -> None:
        """Withdraw the announcement, and save whom this node met."""
        await self._tasks.close()
        await self.met.close()

    async def _discover(self, discovery: LanDiscovery) -> None:
        from p2pfl.discovery.interfaces import usable_interfaces
        from p2pfl.discovery.lan import lan  # imported here: it takes a while, and the node listens already

        hosts = tuple(parse_address(text).host for text in self._mesh.addresses)
        look = partial(usable_interfaces, hosts=hosts)
        await discovery.run(partial(lan, self._interfaces, look=look))

    def _names(self) -> Sequence[tuple[str, str]]:
        """Return the ids and names of the nodes that this one knows."""
        linked = [(node, peer.name) for node, peer in self._mesh.links().items()]
        return [*linked, *((node, one_line(peer.name)) for node, peer in self._earlier.items())]
