"""Collects the updates of one ballot: pulls announced updates, counts them, acknowledges contributions.

`p2pfl.core.collection` holds the contributions and decides when the round closes. The steps before and after,
the election and the proposal, are in `p2pfl.core.aggregator`.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import msgspec

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
from p2pfl.core.effects import fetch_update
from p2pfl.core.inputs import BlobFailed
from p2pfl.core.ledger import Ledger
from p2pfl.core.notices import selected_members
from p2pfl.core.roster import contains, entry_of, sampled, selection
from p2pfl.messages import Ack, Ballot, Member, Submit, UpdateEntry
from p2pfl.spec import update_roles
from p2pfl.strategy_specs import least_updates


@dataclass
class Gathering:
    """The collecting of *ballot*, which begins when this node is elected."""

    ctx: Context
    ledger: Ledger
    ballot: Ballot
    collection: Collection
    began: float
    """When this node was elected."""

    @classmethod
    def begin(cls, ctx: Context, ledger: Ledger, ballot: Ballot) -> Gathering:
        """Begin to collect the updates of the round's sample."""
        spec = ledger.spec
        chosen = selection(ledger.run, ledger.round + 1, ledger.roster, spec)
        selected = set(chosen) if ledger.next_kind == "train" else set()
        enough = min(spec.participation.min_updates, len(selected))
        if selected:
            enough = max(enough, min(least_updates(spec.strategy), len(ledger.roster)))
        collection = Collection(selected, enough)
        return cls(ctx, ledger, ballot, collection, ctx.now)

    def submit(self, member: Member, message: Submit) -> None:
        """Take a member's contribution to this ballot; an update is pulled before it counts."""
        if not contains(self.ledger.roster, member) or message.previous != self.ledger.digest:
            return
        if message.update is not None and self.ledger.schema is None:
            return  # its length is unknown until the worker knows the task; the member announces it again
        message = self._without_flawed_evaluation(member, message)
        known = self.collection.contributions.get(member.node)
        if known is not None:
            known.evaluation = known.evaluation or message.evaluation
            if known.stage.is_final:
                self._note(member.node, known, again=True)
            return
        contribution = judge(
            member, message, self._flaw(message.update), is_training=self.ledger.next_kind == "train"
        )
        self.collection.contributions[member.node] = contribution
        if contribution.stage is Stage.ANNOUNCED:
            update = contribution.update
            assert update is not None
            others = (entry.node for entry in self.ledger.roster)
            sources = tuple(
                dict.fromkeys(node for node in (member.node, *others) if node != self.ctx.me.node)
            )
            ledger = self.ledger
            layout, parent = ledger.layout("update"), ledger.model
            self.ctx.do(fetch_update(update.blobs, layout, ledger.spec, sources, parent))
        else:
            self._note(member.node, contribution)

    def _flaw(self, update: UpdateEntry | None) -> str:
        """Return why *update* does not fit the run; empty if it fits."""
        if update is None:
            return ""
        wanted = update_roles(self.ledger.spec)
        if update.blobs.roles != wanted:
            return f"it names the blobs {', '.join(update.blobs.roles)}, not {', '.join(wanted)}"
        return self.ctx.policy.counts(update, entry_of(self.ledger.roster, update.node))

    def _without_flawed_evaluation(self, member: Member, message: Submit) -> Submit:
        """Return *message* without its evaluation if that has other metrics (rule "Metrics of the run")."""
        evaluation = message.evaluation
        if evaluation is None or not (flaw := self.ctx.policy.metrics(evaluation, self.ledger.agreement)):
            return message
        name = self.ctx.name_of(member.node)
        self.ctx.complain(member.node, "metrics", f"the evaluation of {name} is left out: {flaw}")
        return msgspec.structs.replace(message, evaluation=None)

    def _note(self, node: str, contribution: Contribution, *, again: bool = False) -> None:
        """Acknowledge a contribution; publish a refusal, unless it is sent *again*."""
        if contribution.stage is Stage.REFUSED and not again:
            self.ctx.tell(
                events.UpdateRefused(self.ledger.round + 1, self.ctx.name_of(node), contribution.reason)
            )
        refused = contribution.reason if contribution.stage is Stage.REFUSED else ""
        self.ctx.send(node, Ack(self.ledger.run, self.ledger.round + 1, self.ballot, refused))

    def blob_ready(self, digests: tuple[str, ...]) -> None:
        """Count the updates with the blobs *digests*, which are pulled and checked, perhaps not durable."""
        for node in self.collection.with_update(lambda update: update.blobs.digests == digests):
            contribution = self.collection.contributions[node]
            contribution.stage = Stage.COUNTED
            self.ctx.note_undeliverable(node, "")
            self._note(node, contribution)
            assert contribution.update is not None
            self.ctx.tell(
                events.UpdateCounted(
                    self.ledger.round + 1, self.ctx.name_of(node), contribution.update.examples
                )
            )

    def blob_failed(self, failed: BlobFailed) -> None:
        """Handle a failed pull: refuse an invalid update; otherwise, the member may announce it again."""
        for node in self.collection.with_update(lambda update: failed.is_of(update.blobs.digests)):
            self._pull_failed(node, failed.reason, invalid=failed.invalid)

    def _pull_failed(self, node: str, reason: str, *, invalid: bool) -> None:
        """Refuse the update of *node*, or forget its announcement, so that *node* may announce it again."""
        collection = self.collection
        if not invalid and not self.ctx.is_reachable(node):
            del collection.contributions[
                node
            ]  # its link is down: it soon counts as gone, or announces its update on a new link
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
        self._refuse(node, text)

    def exclude(self, node: str, reason: str) -> bool:
        """Refuse the update of *node*, which is kept out; return whether it was counted."""
        contribution = self.collection.contributions.get(node)
        if contribution is None or contribution.stage not in (Stage.ANNOUNCED, Stage.COUNTED):
            return False
        was_counted = contribution.stage is Stage.COUNTED
        self._refuse(node, f"it {reason}"[:300])
        return was_counted

    def discount(self, digest: str, reason: str) -> None:
        """Refuse a counted update, since the worker could not read its file."""
        for node in self.collection.with_update(lambda update: update.digest == digest, Stage.COUNTED):
            self._refuse(node, f"the aggregator could not read its update: {reason}"[:300])

    def _refuse(self, node: str, reason: str) -> None:
        contribution = self.collection.contributions[node]
        contribution.stage, contribution.reason = Stage.REFUSED, reason
        self._note(node, contribution)

    def select_more(self) -> str | None:
        """Select one more member to train, the next reachable one outside the sample; return its node id."""
        ledger, collection = self.ledger, self.collection
        order = sampled(ledger.run, ledger.round + 1, ledger.roster, ledger.spec.participation.sample_by)
        others = (node for node in order if node not in collection.selected)
        more = next((n for n in others if self.ctx.is_reachable(n) and not self.ctx.exclusion(n)), None)
        if more is None or ledger.next_kind != "train":
            return None
        collection.selected.add(more)
        collection.contributions.pop(more, None)
        self.ctx.tell(selected_members(ledger, collection.selected))
        return more

    def is_evaluated(self, evaluated: AbstractSet[str]) -> bool:
        """Whether *evaluated* are all members whose evaluation is waited for."""
        ctx = self.ctx
        return all(
            entry.node in evaluated or ctx.is_gone(entry) or ctx.is_parting(entry.node)
            for entry in self.ledger.roster
        )

    def progress(self, held: str) -> CollectionProgress:
        """Return the input of `decide_closing`; *held* says why the round may not close yet."""
        ctx, ledger, collection = self.ctx, self.ledger, self.collection
        awaited, evaluating = [], []
        for entry in ledger.roster:
            node = entry.node
            if collection.is_done(node) or ctx.is_gone(entry) or ctx.is_parting(node):
                continue
            if ledger.next_kind == "train" and node not in collection.selected:
                evaluating.append(Awaited(node, self._evaluated_by(), ctx.gone_at(node)))
                continue
            awaited.append(Awaited(node, self._expected_at(node), ctx.gone_at(node), self._has_update(node)))
        return CollectionProgress(
            now=ctx.now,
            awaited=tuple(awaited),
            evaluating=tuple(evaluating),
            counted=len(collection.at(Stage.COUNTED)),
            enough=collection.enough,
            cap_at=ledger.opened + ledger.spec.participation.round_cap,
            last_call=self.began + ledger.spec.participation.round_cap,
            has_quorum=ctx.count_seated(ledger.roster) >= ledger.needed,
            held=held,
            least=least_updates(ledger.spec.strategy),
            absent=tuple(
                entry.name
                for entry in ledger.roster
                if not collection.is_done(entry.node)
                and ctx.is_gone(entry)
                and not ctx.is_parting(entry.node)
            ),
        )

    def _has_update(self, node: str) -> bool:
        """Whether *node* announced its update of this round, or reported its training as finished."""
        contribution = self.collection.contributions.get(node)
        if contribution is not None and contribution.stage is Stage.ANNOUNCED:
            return True
        peer = self.ctx.peers.get(node)
        status = peer.status if peer is not None else None
        return status is not None and status.round == self.ledger.round and status.progress >= 1.0

    def _evaluated_by(self) -> float:
        """Return until when the evaluations of members outside the sample are waited for.

        They may take as long as the longest training that was counted.
        """
        counted = self.collection.counted(self.ctx.policy.order)
        longest = max((update.seconds for update in counted), default=0.0)
        return self.ledger.opened + self.ctx.settings.straggler_factor * longest + self.ctx.settings.resend

    def _expected_at(self, node: str) -> float | None:
        """Return when the straggler deadline of *node* passes; None if it has none.

        The deadline is a multiple of the member's own prediction, both from the start of the round and, for
        the rest of its work, from its last reported progress. So a member that makes progress is waited for,
        even if it began late. A member that has its update has no deadline, however slow the pull is, unless
        pulls from it failed before.
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
