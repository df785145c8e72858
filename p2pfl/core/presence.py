"""What a node says of itself: its Status, when it changed enough to be said at once, and the heartbeat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from p2pfl.core.aggregator import Aggregator, Stand
from p2pfl.core.context import Context
from p2pfl.core.ledger import Ledger
from p2pfl.core.trainee import Trainee
from p2pfl.messages import Status

Phase = Literal["starting", "idle", "training", "trained", "aggregating", "leaving"]


def phase_of(*, ready: bool, leaving: bool, trainee: Trainee | None, aggregator: Aggregator | None) -> Phase:
    """Name what a node is doing, the most telling thing first."""
    if leaving:
        return "leaving"
    if not ready:
        return "starting"
    if aggregator is not None and aggregator.stand_state is not Stand.IDLE:
        return "aggregating"
    if trainee is not None and trainee.training:
        return "training"
    if trainee is not None and trainee.update is not None:
        return "trained"
    return "idle"


@dataclass
class Presence:
    """Sends this node's Status: on change, on every new link, and as a heartbeat."""

    ctx: Context
    said: tuple[object, ...] = ()
    steps: int = 0
    next_beat: float = 0.0

    def status(
        self, ledger: Ledger | None, phase: Phase, trainee: Trainee | None, *, ready: bool, waiting: bool
    ) -> Status:
        """Put together what this node says of itself now."""
        linked = [node for node, peer in self.ctx.peers.items() if peer.linked]
        in_roster = {entry.node for entry in ledger.roster} if ledger else set()
        return Status(
            run=ledger.run if ledger else "",
            round=ledger.round if ledger else 0,
            record=ledger.digest if ledger else "",
            holds=ledger.holds if ledger else False,
            ended=ledger.is_over and ledger.holds if ledger else False,
            rounds=ledger.rounds if ledger else 0,
            resumed=ledger.resumed if ledger else False,
            phase=phase,
            progress=trainee.progress if trainee else 0.0,
            predicted=trainee.predicted if trainee else 0.0,
            links=len(in_roster.intersection(linked)) if ledger else len(linked),
            ready=ready,
            min_nodes=self.ctx.options.min_nodes,
            waiting=waiting,
            steps=self.steps,
        )

    def refresh(self, status: Status) -> None:
        """Broadcast *status* if it says something new that others act on, or if the heartbeat is due."""
        telling = (
            status.run,
            status.round,
            status.holds,
            status.ended,
            status.rounds,
            status.resumed,
            status.phase == "leaving",
            status.ready,
            status.min_nodes,
            status.waiting,
        )
        if telling != self.said or self.ctx.now >= self.next_beat:
            self.said = telling
            self.steps += 1
            self.next_beat = self.ctx.now + self.ctx.settings.heartbeat
            self.ctx.broadcast(status)
