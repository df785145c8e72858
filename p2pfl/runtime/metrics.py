"""What only those are told who watch: how the peers and this node are doing, several times a second.

Nothing of it is done while nobody watches.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from p2pfl import events
from p2pfl.core.node import Node
from p2pfl.core.roster import contains
from p2pfl.messages import Member, Status
from p2pfl.net.mesh import Mesh
from p2pfl.runtime.machine import Usage, usage_of

SAMPLE_SECONDS = 0.5
"""Between two looks at what the peers said."""

SAMPLES_PER_MEASUREMENT = 2
"""Looks for each measurement of processor, memory and links."""


class MetricsSampler:
    """Publishes what changes too often for a log."""

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
        """Measure nothing yet; *worker* returns the process id of the worker, where there is one."""
        self._node = node
        self._me = me
        self._name = name
        self._mesh = mesh
        self._publish = publish
        self._is_watched = is_watched
        self._told: dict[str, events.PeerStatus] = {}
        self._looks = 0
        self._worker = worker
        self._busy, self._busy_at = 0.0, 0.0

    async def run(self) -> None:
        """Look and tell, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(SAMPLE_SECONDS)
            self.look(loop.time())

    def look(self, now: float) -> None:
        """Look once, at *now* by the event loop's clock, and tell what changed; nothing if nobody watches."""
        if not self._is_watched():
            self._told.clear()
            self._looks, self._busy_at = 0, 0.0
            return
        self._tell_statuses()
        self._looks += 1
        if self._looks % SAMPLES_PER_MEASUREMENT == 0:
            self._measure(now)

    # --- peers ----------------------------------------------------------------------------------------------

    def _tell_statuses(self) -> None:
        """Tell what this node and its peers say of themselves, where it changed."""
        self._tell_status(self._me, self._name, self._node.status())
        for peer in self._node.peers.values():
            if peer.linked and peer.status is not None:
                self._tell_status(peer.member, peer.name, peer.status)

    def _tell_status(self, member: Member, name: str, status: Status) -> None:
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
        if self._told.get(member.node) != event:
            self._told[member.node] = event
            self._publish(event)

    # --- this device ----------------------------------------------------------------------------------------

    def _measure(self, now: float) -> None:
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
        its = usage_of(worker) if worker is not None else Usage()  # it may end meanwhile
        return own.seconds + its.seconds, own.memory + its.memory
