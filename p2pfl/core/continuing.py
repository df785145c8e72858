"""Continues a run whose majority is lost for good; an operator decides this.

The rule is "Continuing without the majority".
Without a quorum the old run can decide nothing more. The operator names the surviving nodes. The node that
gets the command founds a new run from the last model that any of them has committed, and record 0 names that
model's origin (`Genesis.continues`). A node that joins the new run leaves the old run for good. This cannot
break the agreement within a run, because the new run is a different run. If the majority comes back after
all, both runs exist; every node that sees both reports it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

import msgspec

from p2pfl.agreement import stated_examples
from p2pfl.cards import DataCard
from p2pfl.core.context import Context
from p2pfl.core.effects import Exit
from p2pfl.core.ledger import Ledger
from p2pfl.core.roster import Newcomer, continued_roster, entry_of
from p2pfl.events import Notice, Waiting
from p2pfl.exit_codes import ExitCode
from p2pfl.messages import (
    MAX_ORIGINS,
    Genesis,
    Member,
    Origin,
    Provenance,
    Status,
    record_digest,
)

MAX_CONTINUATIONS = 16
"""Maximum number of remembered runs that continue the same run. An operator makes each by hand."""


MAX_NOTICES = 256
"""Maximum number of remembered notices. A run has at most 64 origins and `MAX_CONTINUATIONS`
continuations."""


class SurvivorView(msgspec.Struct, frozen=True):
    """A node that the operator named as a survivor, as seen from here."""

    name: str
    status: Status | None
    """Its last Status; None while it is not linked or has sent none."""


class ContinuationSituation(msgspec.Struct, frozen=True):
    """What a node knows when it decides whether to found the new run now."""

    run: str
    round: int
    record: str
    is_over: bool
    prepared: bool
    """Whether the last model is durable here and the worker has loaded the task."""
    named: Sequence[SurvivorView]
    here: int
    """Number of members that are linked and in the run, this node included."""
    away: int
    """Number of members that are linked but have another journal or are in another run."""
    members: int
    needed: int


class ContinuationStep(Enum):
    """What to do about the operator's request to continue."""

    WAIT = "wait"
    FOUND = "found the new run"
    DROP = "there is nothing to continue"


def decide_continuing(outlook: ContinuationSituation) -> tuple[ContinuationStep, str]:
    """Return what to do, and why.

    The new run is founded only when all survivors hold the last record that any of them holds, so no commit
    of a survivor is lost; and only while no survivor can reach a quorum of the old run, which could continue
    by itself.
    """
    if outlook.is_over:
        return ContinuationStep.DROP, "the run is complete: there is nothing to continue"
    if outlook.round == 0:
        return (
            ContinuationStep.DROP,
            "nothing is committed in the run yet: begin a new one with --new-run instead",
        )
    if outlook.here >= outlook.needed:
        return ContinuationStep.DROP, (
            f"{outlook.here} of {outlook.members} members are here, {outlook.needed} needed: "
            "the run goes on by itself"
        )
    for named in outlook.named:
        obstacle = _obstacle(outlook, named)
        if obstacle:
            return ContinuationStep.WAIT, obstacle
    if not outlook.prepared:
        return ContinuationStep.WAIT, f"the model of record {outlook.round} or the worker is not ready here"
    return ContinuationStep.FOUND, f"all named are at record {outlook.round}"


def _obstacle(outlook: ContinuationSituation, named: SurvivorView) -> str:
    """Return why *named* is not ready for the new run; empty when it is."""
    status = named.status
    if status is None:
        return f"{named.name} is not linked"
    if status.run not in ("", outlook.run):
        return f"{named.name} is in another run, {status.run[:12]}"
    if not status.run:
        return ""
    if (status.round, status.record) != (outlook.round, outlook.record):
        return f"{named.name} is at record {status.round}, this device at {outlook.round}: one catches up"
    reached = status.links + 1 - outlook.away
    if reached >= outlook.needed:
        return (
            f"{named.name} reaches {reached} of {outlook.members} members, {outlook.needed} needed: "
            "the run can go on by itself"
        )
    return ""


class FollowDecision(Enum):
    """What a node does about a run that continues its own run."""

    MOVE = "close its own run and join the other"
    STAY = "go on: a majority of its run is here"
    STOP = "stop: it has committed more than the others went on from"


def decide_following(ledger: Ledger, origin: Origin, here: int) -> FollowDecision:
    """Return what the node of *ledger* does about a run that continues its own run from *origin*."""
    if here >= ledger.needed:
        return FollowDecision.STAY
    if ledger.round < origin.round or (ledger.round, ledger.digest) == (origin.round, origin.record):
        return FollowDecision.MOVE
    return FollowDecision.STOP


@dataclass
class Continuation:
    """The part of a node that continues a run, or that meets a run that continues its own."""

    ctx: Context
    wanted: frozenset[str]
    """Node ids of the survivors; empty means this node alone, see `is_wanted`."""
    is_wanted: bool
    """Whether the operator's request is still open."""
    kin: dict[str, Genesis] = field(default_factory=dict)
    """Record 0 by run id, of the runs that continue this node's run."""
    beyond: str = ""
    """The run that makes this node stop unless a majority of its own run appears."""
    beyond_since: float = 0.0
    waiting: str = ""
    """The last reported reason for which the request waits."""
    said: set[tuple[str, str]] = field(default_factory=set)
    """Notices already published, as (run, text)."""

    # --- at the operator's request --------------------------------------------------------------------------

    def found(self, ledger: Ledger, *, ready: bool) -> Genesis | None:
        """Return record 0 of the new run if it can be founded now."""
        step, reason = decide_continuing(self._outlook(ledger, ready=ready))
        if step is ContinuationStep.WAIT:
            if reason != self.waiting:
                self.waiting = reason
                here = sum(self.ctx.is_reachable(node) for node in self.wanted)
                text = f"to continue run {ledger.run[:12]}: {reason}"
                self.ctx.tell(Waiting(here + 1, len(self.wanted) + 1, text))
            return None
        self.is_wanted = False
        if step is ContinuationStep.DROP:
            self.ctx.warn(f"run {ledger.run[:12]} is not continued as another one: {reason}")
            return None
        peers = [self.ctx.peers[node] for node in self.wanted]
        members = [self._member(ledger, self.ctx.me, self.ctx.name, self.ctx.card)]
        members += [self._member(ledger, peer.member, peer.name, peer.card) for peer in peers]
        origin = Origin(ledger.run, ledger.round, ledger.digest, ledger.trained)
        return msgspec.structs.replace(
            ledger.genesis,
            nonce=self.ctx.options.nonce,
            spec=msgspec.structs.replace(ledger.spec, rounds=ledger.rounds),
            roster=continued_roster(ledger.roster, members),
            blobs=ledger.blobs,
            provenance=Provenance(self.ctx.options.software, "continued"),
            continues=(*ledger.genesis.continues, origin)[-MAX_ORIGINS:],
        )

    def _member(self, ledger: Ledger, member: Member, name: str, card: DataCard | None) -> Newcomer:
        """Return a member of the new run; one of the old run keeps the examples stated there."""
        before = entry_of(ledger.roster, member.node)
        if before is not None:
            return Newcomer(member, name, before.examples)
        assert self.ctx.card is not None, "a new run is founded only when the worker knows the task"
        return Newcomer(member, name, stated_examples(ledger.spec.task, card, self.ctx.card))

    def _outlook(self, ledger: Ledger, *, ready: bool) -> ContinuationSituation:
        named = []
        for node in sorted(self.wanted):
            peer = self.ctx.peers.get(node)
            named.append(
                SurvivorView(
                    self.ctx.name_of(node), peer.status if peer is not None and peer.linked else None
                )
            )
        return ContinuationSituation(
            run=ledger.run,
            round=ledger.round,
            record=ledger.digest,
            is_over=ledger.is_over,
            prepared=ready and ledger.holds,
            named=named,
            here=self._here(ledger),
            away=sum(self.ctx.is_reachable(entry.node) for entry in ledger.roster) - self._here(ledger),
            members=len(ledger.roster),
            needed=ledger.needed,
        )

    def _here(self, ledger: Ledger) -> int:
        """Count the members of the run of *ledger* that are linked and in it, this node included."""
        count = 0
        for entry in ledger.roster:
            peer = self.ctx.peers.get(entry.node)
            is_other = peer is not None and peer.status is not None and peer.status.run == ledger.run
            count += self.ctx.is_seated(entry) and (entry.node == self.ctx.me.node or is_other)
        return count

    # --- meeting a run that continues this one --------------------------------------------------------------

    def follows(self, ledger: Ledger, genesis: Genesis) -> bool:
        """Whether to leave the run of *ledger* for that of *genesis*, which continues it; reports why not."""
        origin = genesis.origin_in(ledger.run)
        assert origin is not None
        run = record_digest(genesis)
        self._remember(run, genesis)
        verdict = decide_following(ledger, origin, self._here(ledger))
        if verdict is FollowDecision.MOVE:
            return True
        if verdict is FollowDecision.STAY:
            text = (
                f"others went on from round {origin.trained} of run {ledger.run[:12]} as run {run[:12]}, but "
                f"a majority of {ledger.run[:12]} is here, at round {ledger.trained}: there are two runs now"
            )
            self._say_once(run, Notice("warning", text))
        elif not self.beyond:
            self.beyond, self.beyond_since = run, self.ctx.now
            self._say_once(run, Notice("error", self._both(ledger, origin, run)))
        return False

    def _remember(self, run: str, genesis: Genesis) -> None:
        """Remember record 0 of a run that continues this one, a bounded number of them."""
        self.kin[run] = genesis
        for old in list(self.kin)[: max(0, len(self.kin) - MAX_CONTINUATIONS)]:
            if old != self.beyond:
                del self.kin[old]
        if len(self.said) > MAX_NOTICES:
            self.said.clear()

    def consider_stopping(self, ledger: Ledger) -> float | None:
        """Exit if others continued from an earlier round and this node's own run has no majority here.

        Return when to call this again. Members of its own run may be starting too; they get the same time as
        after a start.
        """
        genesis = self.kin.get(self.beyond)
        origin = genesis.origin_in(ledger.run) if genesis is not None else None
        if origin is None or ledger.is_over or self._here(ledger) >= ledger.needed:
            self.beyond = ""
            return None
        at = self.beyond_since + self.ctx.settings.start_grace
        if self.ctx.now < at:
            return at
        self.ctx.do(Exit(ExitCode.LEFT_BEHIND, self._both(ledger, origin, self.beyond)))
        return None

    def _both(self, ledger: Ledger, origin: Origin, run: str) -> str:
        theirs = f"round {origin.trained} of run {ledger.run[:12]} (record {origin.record[:12]})"
        mine = f"round {ledger.trained} (record {ledger.digest[:12]})"
        return (
            f"others went on from {theirs} as run {run[:12]}, but this device has committed {mine}, and no "
            "majority of its run is here: start it with --new-run to join them, without what it committed "
            "beyond, or bring the members of its own run back"
        )

    def hear_of_old_run(self, ledger: Ledger, name: str, status: Status) -> None:
        """Report that the run which this one continues is still active elsewhere."""
        origin = ledger.genesis.origin_in(status.run)
        if origin is not None and status.round > origin.round:
            text = (
                f"{name} is at record {status.round} of run {status.run[:12]}, which this run continues from "
                f"record {origin.round}: there are two runs now"
            )
            self._say_once(status.run, Notice("warning", text))

    def tell_moved(self, ledger: Ledger, genesis: Genesis) -> None:
        """Report that this node moves from the run of *ledger* to the run that continues it."""
        origin = genesis.origin_in(ledger.run)
        assert origin is not None
        kept = ", ".join(entry.name for entry in genesis.roster)
        out = ", ".join(entry.name for entry in ledger.roster if entry_of(genesis.roster, entry.node) is None)
        self.ctx.warn(
            f"run {ledger.run[:12]} is closed here at round {ledger.trained} and goes on from round "
            f"{origin.trained} as run {record_digest(genesis)[:12]} with {kept}; left out: "
            f"{out or 'nobody'}. What others may still commit in the old run is not part of the new one"
        )

    def _say_once(self, run: str, notice: Notice) -> None:
        if (run, notice.level) not in self.said:
            self.said.add((run, notice.level))
            self.ctx.tell(notice)
