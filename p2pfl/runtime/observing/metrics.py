"""Samples the status of peers and the resource use of this node, while an observer is connected."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from p2pfl import events
from p2pfl.core.node import Node
from p2pfl.core.roster import contains
from p2pfl.messages import Member, Status
from p2pfl.net.mesh import Mesh
from p2pfl.runtime.observing.system_info import Usage, usage_of

SAMPLE_SECONDS = 0.5
"""Interval between two samples of the peers' statuses."""

SAMPLES_PER_MEASUREMENT = 2
"""Number of samples between two measurements of processor, memory and links."""


class MetricsSampler:
    """Publishes live events, which are too frequent for a log."""

    def __init__(
        self,
        node: Node,
        me: Member,
        name: str,
        mesh: Mesh,
        publish: Callable[[events.AnyEvent], None],
        is_watched: Callable[[], bool],
        worker: Callable[[], int | None],
    ) -> None:
        """Sample nothing yet; *worker* returns the process id of the worker, or None."""
        self._node = node
        self._me = me
        self._name = name
        self._mesh = mesh
        self._publish = publish
        self._is_watched = is_watched
        self._published: dict[str, events.PeerStatus] = {}
        self._samples = 0
        self._worker = worker
        self._busy, self._busy_at = 0.0, 0.0

    async def run(self) -> None:
        """Sample periodically until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(SAMPLE_SECONDS)
            self.sample(loop.time())

    def sample(self, now: float) -> None:
        """Sample once, at *now* by the event loop's clock; do nothing without an observer."""
        if not self._is_watched():
            self._published.clear()
            self._samples, self._busy_at = 0, 0.0
            return
        self._publish_statuses()
        self._samples += 1
        if self._samples % SAMPLES_PER_MEASUREMENT == 0:
            self.measure(now)

    def sample_now(self, now: float) -> None:
        """Sample and measure once at *now*, whoever observes: for a scrape of the node's metrics."""
        self._publish_statuses()
        self.measure(now)

    # --- peers ----------------------------------------------------------------------------------------------

    def _publish_statuses(self) -> None:
        """Publish the status of this node and of its peers, if it changed."""
        self._publish_status(self._me, self._name, self._node.status())
        for peer in self._node.peers.values():
            if peer.linked and peer.status is not None:
                self._publish_status(peer.member, peer.name, peer.status)

    def _publish_status(self, member: Member, name: str, status: Status) -> None:
        ledger = self._node.ledger
        event = events.PeerStatus(
            member.node,
            name,
            status.run,
            status.round,
            status.holds,
            status.phase,
            round(status.progress, 3),
            round(status.predicted, 3),
            status.links,
            ledger is not None and contains(ledger.roster, member),
            status.ended,
        )
        if self._published.get(member.node) != event:
            self._published[member.node] = event
            self._publish(event)

    # --- this device ----------------------------------------------------------------------------------------

    def measure(self, now: float) -> None:
        """Publish processor use, memory and traffic at *now* by the event loop's clock."""
        busy, memory = self._usage()
        cpu = (busy - self._busy) / (now - self._busy_at) if self._busy_at else 0.0
        self._busy, self._busy_at = busy, now
        links = []
        for node in sorted(self._mesh.links()):
            meter = self._mesh.traffic.total(node=node)
            links.append(events.LinkMeasure(node, self._mesh.rtt(node), meter.sent, meter.received))
        self._publish(events.Measured(round(max(0.0, cpu), 3), memory, tuple(links)))

    def _usage(self) -> tuple[float, int]:
        """Return the processor seconds and the resident bytes of this process and its worker."""
        own = usage_of(os.getpid())
        worker = self._worker()
        its = usage_of(worker) if worker is not None else Usage()  # it may have ended
        return own.seconds + its.seconds, own.memory + its.memory
