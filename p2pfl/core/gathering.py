"""The gathering of a ballot's updates: announced, pulled, given to the worker one after the other, noted.

`p2pfl.core.collection` holds what came and decides; here is what is done about it. What comes before and
after, the election and the proposal, is in `p2pfl.core.aggregator`.
"""

from __future__ import annotations

from dataclasses import dataclass

from p2pfl import events
from p2pfl.core.collection import (
    Awaited,
    Collection,
    CollectionProgress,
    Contribution,
    Stage,
    decide_pulling_again,
    judge,
)
from p2pfl.core.context import Context
from p2pfl.core.effects import Fetch, Fold
from p2pfl.core.ledger import Ledger
from p2pfl.core.roster import contains, sampled, selection
from p2pfl.messages import Ack, Ballot, Member, Submit

FOLDS_AHEAD = 2
"""Updates given away of which this node has not been told that they are folded. A worker's node tells so when
the worker has been given one (`runtime/jobs/work.py`), so this binds whoever takes longer."""


@dataclass
class Gathering:
    """Made when this node is elected for *ballot*."""

    ctx: Context
    ledger: Ledger
    ballot: Ballot
    collection: Collection
    began: float
    """When this node was elected."""

    @classmethod
    def begin(cls, ctx: Context, ledger: Ledger, ballot: Ballot) -> Gathering:
        """Return a new one, which wants the updates of the round's sample."""
        spec = ledger.spec
        chosen = selection(ledger.run, ledger.round + 1, ledger.roster, spec.sample)
        selected = set(chosen) if ledger.next_kind == "train" else set()
        collection = Collection(selected, min(spec.min_updates, len(selected)))
        return cls(ctx, ledger, ballot, collection, ctx.now)

    def submit(self, member: Member, message: Submit) -> None:
        """Take a member's contribution to this ballot; an update is pulled before it counts."""
        if not contains(self.ledger.roster, member) or message.previous != self.ledger.digest:
            return
        known = self.ctx.policy.known(self.collection.contributions, member.node)
        if known is not None:
            known.evaluation = known.evaluation or message.evaluation
            if known.stage.is_final:
                self._note(member.node, known, again=True)
            return
        contribution = judge(
            member, message, self.ledger.genesis.max_samples, is_training=self.ledger.next_kind == "train"
        )
        self.collection.contributions[member.node] = contribution
        if contribution.stage is Stage.ANNOUNCED:
            update = contribution.update
            assert update is not None
            others = (entry.node for entry in self.ledger.roster)
            sources = tuple(
                dict.fromkeys(node for node in (member.node, *others) if node != self.ctx.me.node)
            )
            layout, parent = self.ledger.genesis.layout, self.ledger.model
            self.ctx.do(Fetch(update.digest, layout, sources, durable=False, parent=parent))
        else:
            self._note(member.node, contribution)

    def _note(self, node: str, contribution: Contribution, *, again: bool = False) -> None:
        """Tell a member what became of its contribution, and people once; *again* where it asks once more."""
        if contribution.stage is Stage.REFUSED and not again:
            self.ctx.tell(
                events.UpdateRefused(self.ledger.round + 1, self.ctx.name_of(node), contribution.reason)
            )
        refused = contribution.reason if contribution.stage is Stage.REFUSED else ""
        self.ctx.send(node, Ack(self.ledger.run, self.ledger.round + 1, self.ballot, refused))

    def blob_ready(self, digest: str) -> None:
        """Fold the updates whose bytes are here; they need not be durable."""
        waiting = self.collection.with_blob(digest)
        for node, contribution in self.collection.contributions.items():
            if contribution in waiting:
                contribution.stage = Stage.READY
                self.ctx.note_undeliverable(node, "")
        self._fold_next()

    def blob_failed(self, digest: str, reason: str, *, invalid: bool) -> None:
        """Refuse an update that is invalid or cannot be had; for a while its member may announce it again."""
        contributions = self.collection.contributions
        waiting = self.collection.with_blob(digest)
        for node in [node for node, one in contributions.items() if one in waiting]:
            self._pull_failed(node, reason, invalid=invalid)

    def _pull_failed(self, node: str, reason: str, *, invalid: bool) -> None:
        """Decide about a member's update that could not be pulled."""
        collection = self.collection
        if not invalid and not self.ctx.is_reachable(node):
            del collection.contributions[node]  # its link is gone: it counts as gone soon, or comes back
            return
        peer = self.ctx.peers.get(node)
        collection.failed_pulls[node] = collection.failed_pulls.get(node, 0) + 1
        is_known = peer is not None and bool(peer.undeliverable)
        again, why = decide_pulling_again(
            collection.failed_pulls[node], is_invalid=invalid, is_known=is_known
        )
        collection.failures[node] = text = (reason if invalid else f"{why}: {reason}")[:300]
        if again:
            del collection.contributions[node]
            return
        if not invalid:
            self.ctx.note_undeliverable(node, reason)
        contribution = collection.contributions[node]
        contribution.stage, contribution.reason = Stage.REFUSED, text
        self._note(node, contribution)

    def _fold_next(self) -> None:
        """Give the worker its next updates: while it adds one, another lies ready for it."""
        folding = self.collection.folding
        for node in self.collection.at(Stage.READY):
            if len(folding) == FOLDS_AHEAD:
                return
            if node in folding:
                continue
            update = self.collection.contributions[node].update
            assert update is not None
            folding.append(node)
            self.ctx.do(
                Fold(self.ledger.run, self.ledger.round + 1, self.ballot, update.digest, update.samples)
            )

    def folded(self, digest: str) -> None:
        """Note that update *digest* is in the sum, and fold the next one."""
        node = self.collection.folded(digest)
        if node is None:
            return
        contribution = self.collection.contributions[node]
        contribution.stage = Stage.FOLDED
        assert contribution.update is not None
        self._note(node, contribution)
        self.ctx.tell(
            events.UpdateCounted(self.ledger.round + 1, self.ctx.name_of(node), contribution.update.samples)
        )
        self._fold_next()

    def select_more(self) -> str | None:
        """Want the update of one more member, the next reachable one outside the sample; return it."""
        ledger, collection = self.ledger, self.collection
        order = sampled(ledger.run, ledger.round + 1, ledger.roster, ledger.spec.sample)
        more = next((n for n in order if n not in collection.selected and self.ctx.is_reachable(n)), None)
        if more is None or ledger.next_kind != "train":
            return None
        collection.selected.add(more)
        collection.contributions.pop(more, None)
        return more

    def progress(self, held: str) -> CollectionProgress:
        """Return what the closing of the round is decided by; *held* says why it may not close."""
        ctx, ledger, collection = self.ctx, self.ledger, self.collection
        awaited = []
        for entry in ledger.roster:
            node = entry.node
            if collection.is_done(node) or ctx.is_gone(entry) or ctx.is_leaving(node):
                continue
            awaited.append(Awaited(node, self._expected_at(node), ctx.gone_at(node), self._has_update(node)))
        pending = collection.at(Stage.READY)
        return CollectionProgress(
            now=ctx.now,
            awaited=tuple(one for one in awaited if one.node not in pending),
            unfolded=len(pending),
            folded=len(collection.at(Stage.FOLDED)),
            enough=collection.enough,
            cap_at=ledger.opened + ledger.spec.round_cap,
            last_call=self.began + ledger.spec.round_cap,
            has_quorum=ctx.count_seated(ledger.roster) >= ledger.needed,
            held=held,
        )

    def _has_update(self, node: str) -> bool:
        """Whether *node* has its update of this round, as far as it said."""
        contribution = self.collection.contributions.get(node)
        if contribution is not None and contribution.stage is Stage.ANNOUNCED:
            return True
        peer = self.ctx.peers.get(node)
        status = peer.status if peer is not None else None
        return status is not None and status.round == self.ledger.round and status.progress >= 1.0

    def _expected_at(self, node: str) -> float | None:
        """Return when a member's straggler deadline passes.

        A generous multiple of what it predicts, in all and from its last step on: whoever works is never cut,
        however late it began. Nor is an update that is there and on its way, however slow that is, unless
        nothing could be pulled from its member before.
        """
        peer = self.ctx.peers.get(node)
        status = peer.status if peer is not None else None
        if peer is not None and not peer.undeliverable and self._has_update(node):
            return None
        if peer is None or status is None or status.round != self.ledger.round or status.predicted <= 0:
            return None
        factor = self.ctx.settings.straggler_factor
        in_all = self.ledger.opened + factor * status.predicted
        from_last_step = peer.moved_at + factor * status.predicted * (1 - status.progress)
        return max(in_all, from_last_step) + self.ctx.settings.resend
