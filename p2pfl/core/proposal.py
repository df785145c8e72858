"""Drafts the record that an aggregator proposes, from its collected updates and the state of its peers.

It is separate from `p2pfl.core.aggregator`, which controls the order of steps: these functions change no
state.
"""

from __future__ import annotations

from collections.abc import Collection as AnyCollection
from dataclasses import dataclass

from p2pfl.agreement import stated_examples
from p2pfl.core.collection import Collection, Stage
from p2pfl.core.context import Context
from p2pfl.core.control import ENDED_NOW
from p2pfl.core.ledger import Ledger
from p2pfl.core.pausing import TrainingSummary, decide_holding, decide_pausing
from p2pfl.core.roster import Newcomer, RosterView, contains, next_roster
from p2pfl.core.stopping import STOPPED
from p2pfl.messages import (
    LEAVING,
    NOT_IN_RUN,
    NOT_REACHABLE,
    Ballot,
    LeftOut,
    MemberEvaluation,
    Record,
    RecordBlobs,
)


@dataclass(frozen=True)
class Draft:
    """The input from which the record of the open round is drafted."""

    ledger: Ledger
    collection: Collection
    ballot: Ballot
    requests: AnyCollection[str]
    """The open control requests: "pause", "end" and "end-now"."""
    leaving_myself: bool
    """Whether the aggregator drops itself from the next roster."""

    def record(self, ctx: Context, blobs: RecordBlobs | None, note: str, shortage: str = "") -> Record:
        """Return the record with the new *blobs*; None keeps those of the parent and counts no update.

        *shortage* says why the strategy made no model of the updates that came, such as too few of them. If
        the run stops early, the record closes it, without the *blobs* (rule "Stopping early").
        """
        ledger, kind = self.ledger, self.ledger.next_kind
        stops, reason = self.decide_stopping()
        if stops:
            blobs, note, kind = None, reason if kind == "train" else "", "evaluate"
        updates = self.collection.counted(ctx.policy.order) if blobs is not None else ()
        counted = {update.node for update in updates}
        roster, change = next_roster(ledger.roster, self._roster_view(ctx))
        left_out = tuple(
            LeftOut(node, STOPPED if stops else self._why_left_out(ctx, node, shortage))
            for node in sorted(self.collection.selected)
            if node not in counted
        )
        pauses, why = False, ""
        if kind == "train":
            pauses, why = decide_pausing(self._summary(ctx, len(updates), left_out, shortage))
        is_last = kind == "evaluate" or "end" in self.requests or "end-now" in self.requests
        return Record(
            run=ledger.run,
            round=ledger.round + 1,
            previous=ledger.digest,
            kind=kind,
            trained=ledger.trained + (kind == "train"),
            rounds=ledger.rounds,
            ballot=self.ballot,
            blobs=blobs or ledger.blobs,
            updates=updates,
            left_out=left_out,
            evaluations=self._evaluations(),
            roster=roster,
            then="end" if is_last else "pause" if pauses or "pause" in self.requests else "go",
            note="; ".join(part for part in (why if pauses else "", note, change) if part)[:300],
        )

    def decide_stopping(self) -> tuple[bool, str]:
        """Return whether the record ends the run early, and why, by the evaluations collected so far."""
        return self.ledger.decide_stopping(self._evaluations())

    def evaluated(self) -> frozenset[str]:
        """Return the members whose evaluations the record will hold."""
        return frozenset(one.node for one in self._evaluations())

    def _evaluations(self) -> tuple[MemberEvaluation, ...]:
        """Return the evaluations of the parent's model: those contributed, and otherwise those reported."""
        contributed = self.collection.contributions.items()
        known = self.ledger.reports | {node: one.evaluation for node, one in contributed if one.evaluation}
        return tuple(MemberEvaluation(node, one) for node, one in sorted(known.items()))

    def decide_holding(self, ctx: Context) -> tuple[bool, str]:
        """Decide whether the round must wait, since it needs a leaving member (see `p2pfl.core.pausing`)."""
        leaving = [entry.node for entry in self.ledger.roster if self._is_leaving(ctx, entry.node)]
        if not leaving or self.ledger.next_kind != "train":
            return False, "nobody is leaving"
        voting, is_wanted = self.ledger.roster, bool(self.requests) or self.decide_stopping()[0]
        roster, _ = next_roster(voting, self._roster_view(ctx))
        return decide_holding(leaving, voting, roster, is_wanted=is_wanted)

    def _summary(
        self, ctx: Context, counted: int, left_out: tuple[LeftOut, ...], shortage: str
    ) -> TrainingSummary:
        """Return why members are left out, from which `decide_pausing` decides whether the run pauses."""
        failed, late = {}, 0
        for left in left_out:
            contribution = self.collection.contributions.get(left.node)
            is_final = contribution is not None and contribution.stage.is_final
            is_parting = self._is_leaving(ctx, left.node) or ctx.exclusion(left.node)
            if is_parting or left.reason in (ENDED_NOW, shortage):
                continue
            if is_final:
                failed[ctx.name_of(left.node)] = left.reason
            else:
                late += any(ctx.is_seated(one) for one in self.ledger.roster if one.node == left.node)
        return TrainingSummary(counted, failed, late, self.ledger.unproductive, shortage)

    def _why_left_out(self, ctx: Context, node: str, shortage: str) -> str:
        contribution = self.collection.contributions.get(node)
        if reason := ctx.exclusion(node):
            return f"it {reason}"[:300]
        if contribution is not None and contribution.stage is Stage.COUNTED:
            return shortage or "the average was not finite"
        peer = ctx.peers.get(node)
        if contribution is not None and contribution.stage is Stage.ANNOUNCED and peer and peer.undeliverable:
            return f"its update could not be pulled: {peer.undeliverable}"[:300]
        if contribution is not None and contribution.reason:
            return contribution.reason
        if contribution is not None and contribution.stage is Stage.ANNOUNCED:
            return "its update could not be pulled in time"
        if self._is_leaving(ctx, node):
            return LEAVING
        if node in self.collection.failures:
            return self.collection.failures[node]
        if not any(ctx.is_seated(entry) for entry in self.ledger.roster if entry.node == node):
            return NOT_IN_RUN if ctx.is_reachable(node) else NOT_REACHABLE
        return "its update came too late"

    def _roster_view(self, ctx: Context) -> RosterView:
        ledger = self.ledger
        since = {entry.node: ctx.absent_since(entry) for entry in ledger.roster}
        absences = {node: ctx.now - time for node, time in since.items() if time is not None}
        return RosterView(
            me=ctx.me,
            reachable=frozenset({ctx.me, *(peer.member for peer in ctx.peers.values() if ctx.is_able(peer))}),
            leaving=frozenset(entry.node for entry in ledger.roster if self._is_leaving(ctx, entry.node)),
            excluded={entry.node: reason for entry in ledger.roster if (reason := ctx.exclusion(entry.node))},
            absent={
                node: seconds
                for node, seconds in absences.items()
                if seconds >= ledger.spec.participation.drop_after
            },
            joiners=tuple(self._joiners(ctx)),
        )

    def _joiners(self, ctx: Context) -> list[Newcomer]:
        """Return the learners that may join the roster (rule "Joining").

        They are linked, hold the parent's record and blobs, are not leaving, and their data fit the run.
        """
        ledger, task, agreement = self.ledger, self.ledger.spec.task, self.ledger.agreement
        return [
            Newcomer(peer.member, peer.name, stated_examples(task, peer.card, peer.card))
            for _, peer in sorted(ctx.peers.items())
            if peer.linked
            and not ctx.exclusion(peer.member.node)
            and not contains(ledger.roster, peer.member)
            and peer.status is not None
            and (peer.status.run, peer.status.record) == (ledger.run, ledger.digest)
            and peer.status.holds
            and not peer.is_leaving
            and peer.card is not None
            and not ctx.policy.data(task, agreement, peer.card)
        ]

    def _is_leaving(self, ctx: Context, node: str) -> bool:
        return self.leaving_myself if node == ctx.me.node else ctx.is_leaving(node)
