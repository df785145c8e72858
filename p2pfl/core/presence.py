"""What a node says of itself: its Status, when it changed enough to be said at once, and the heartbeat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from p2pfl.core.aggregator import Aggregator, Candidacy
from p2pfl.core.context import Context
from p2pfl.core.ledger import Ledger
from p2pfl.core.local_trainer import LocalTrainer
from p2pfl.messages import Status

Phase = Literal["starting", "idle", "training", "trained", "aggregating", "leaving"]


class Condition(NamedTuple):
    """What a node's Status is made of."""

    ledger: Ledger | None
    local_trainer: LocalTrainer | None
    aggregator: Aggregator | None
    ready: bool
    leaving: bool
    waiting: bool

    @property
    def phase(self) -> Phase:
        """What the node is doing, the most telling thing first."""
        if self.leaving:
            return "leaving"
        if not self.ready:
            return "starting"
        if self.aggregator is not None and self.aggregator.candidacy is not Candidacy.IDLE:
            return "aggregating"
        if self.local_trainer is not None and self.local_trainer.training:
            return "training"
        if self.local_trainer is not None and self.local_trainer.update is not None:
            return "trained"
        return "idle"


@dataclass
class Presence:
    """Sends this node's Status: on change, on every new link, and as a heartbeat."""

    ctx: Context
    said: tuple[object, ...] = ()
    said_at: float = 0.0
    moved: tuple[object, ...] = ()
    """How far it was when that was last looked at."""
    steps: int = 0
    next_beat: float = 0.0

    def status(self, condition: Condition) -> Status:
        """Put together what this node says of itself now."""
        ledger, local_trainer = condition.ledger, condition.local_trainer
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
            phase=condition.phase,
            progress=local_trainer.progress if local_trainer else 0.0,
            predicted=local_trainer.predicted if local_trainer else 0.0,
            links=len(in_roster.intersection(linked)) if ledger else len(linked),
            ready=condition.ready,
            min_nodes=self.ctx.options.min_nodes,
            waiting=condition.waiting,
            steps=self.steps,
        )

    def refresh(self, condition: Condition) -> None:
        """Broadcast a Status if it says something new that others act on, or if the heartbeat is due.

        That a member is a round further it says at once too, but not too often.
        """
        settings, now = self.ctx.settings, self.ctx.now
        moved = _progress(condition)
        if moved != self.moved:
            self.moved = moved
            self.next_beat = min(self.next_beat, max(now, self.said_at + settings.often))
        telling = self._telling(condition)
        if telling != self.said or now >= self.next_beat:
            self.said, self.said_at = telling, now
            self.steps += 1
            self.next_beat = now + settings.heartbeat
            self.ctx.broadcast(self.status(condition))

    def _telling(self, condition: Condition) -> tuple[object, ...]:
        """Return what others act on at once; progress and the like wait for the heartbeat."""
        ledger = condition.ledger
        own = (condition.leaving, condition.ready, condition.waiting, self.ctx.options.min_nodes)
        if ledger is None:
            return own
        # Of a learner everybody waits to hear that it has caught up: it is a member with the next round then.
        learnt = () if ledger.is_member else _progress(condition)
        return (*own, ledger.run, ledger.is_over and ledger.holds, ledger.rounds, ledger.resumed, *learnt)


def _progress(condition: Condition) -> tuple[object, ...]:
    """Return how far the node is in its run."""
    ledger = condition.ledger
    return () if ledger is None else (ledger.run, ledger.round, ledger.holds)
