"""Builds a node's Status message and decides when to send it: on a relevant change, else as a heartbeat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from p2pfl.core.aggregator import Aggregator, Candidacy
from p2pfl.core.context import Context
from p2pfl.core.ledger import Ledger
from p2pfl.core.local_trainer import LocalTrainer
from p2pfl.messages import Card, GivenOption, Status

Phase = Literal["starting", "idle", "training", "trained", "aggregating", "leaving"]


class NodeCondition(NamedTuple):
    """The state of a node from which its Status is built."""

    ledger: Ledger | None
    local_trainer: LocalTrainer | None
    aggregator: Aggregator | None
    ready: bool
    leaving: bool
    waiting: bool
    given: tuple[GivenOption, ...] = ()
    """See `p2pfl.messages.Status`, as for the next two."""
    choice: int = 0
    complete: bool = False

    @property
    def phase(self) -> Phase:
        """Return what the node is doing; the first matching phase counts."""
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
    """Sends this node's Status on change, on new links and as a heartbeat; a non-member's card with it."""

    ctx: Context
    said: tuple[object, ...] = ()
    said_at: float = 0.0
    moved: tuple[object, ...] = ()
    """Its progress at the last look."""
    steps: int = 0
    next_beat: float = 0.0

    def status(self, condition: NodeCondition) -> Status:
        """Return this node's Status now."""
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
            given=condition.given,
            choice=condition.choice,
            complete=condition.complete,
            steps=self.steps,
        )

    def refresh(self, condition: NodeCondition) -> None:
        """Broadcast a Status if something changed that others act on, or if the heartbeat is due.

        A member's new round is such a change too, but its rate is limited.
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
            is_member = condition.ledger is not None and condition.ledger.is_member
            if self.ctx.card is not None and not is_member:
                self.ctx.broadcast(Card(self.ctx.card))  # again each time: a founder or aggregator needs it
            self.ctx.broadcast(self.status(condition))

    def _telling(self, condition: NodeCondition) -> tuple[object, ...]:
        """Return the values that others act on at once; others, such as progress, wait for the heartbeat."""
        ledger = condition.ledger
        own = (condition.leaving, condition.ready, condition.waiting, self.ctx.options.min_nodes)
        if ledger is None:
            return (*own, condition.choice, condition.complete)
        # All members wait for a learner to report that it has caught up, since it joins with the next round.
        learnt = () if ledger.is_member else _progress(condition)
        return (*own, ledger.run, ledger.is_over and ledger.holds, ledger.rounds, ledger.resumed, *learnt)


def _progress(condition: NodeCondition) -> tuple[object, ...]:
    """Return how far the node is in its run."""
    ledger = condition.ledger
    return () if ledger is None else (ledger.run, ledger.round, ledger.holds)
