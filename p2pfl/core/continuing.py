"""Going on without a majority that is gone for good: an operator's decision, never a node's own (rule 14).

A quorum of the roster cannot be had, so nothing in the old run can be decided any more. The operator names
who is left; the node asked founds a new run from the last model any of them has committed, and record 0
says so (`Genesis.continues`). Whoever takes it turns away from the old run for good. Nothing here can break
the agreement within a run, since the new one is another run; what can happen is that both live on, when the
majority was not gone after all. Everybody who sees that says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

import msgspec

from p2pfl.core.context import Context
from p2pfl.core.effects import Exit
from p2pfl.core.ledger import Ledger
from p2pfl.core.roster import continued_roster, entry_of
from p2pfl.events import Notice, Waiting
from p2pfl.exit_codes import ExitCode
from p2pfl.messages import MAX_ORIGINS, Genesis, Origin, Status, record_digest

MAX_KIN = 16
"""Runs remembered that continue one and the same: operators make each by hand."""


MAX_SAID = 256
"""Things said once that are remembered; a run has at most 64 origins and `MAX_KIN` of these."""


class Named(msgspec.Struct, frozen=True):
    """A node the operator wants to go on with, as far as it is known."""

    name: str
    status: Status | None
    """None while there is no link to it, or it has said nothing yet."""


class Outlook(msgspec.Struct, frozen=True):
    """What decides whether to found the new run now."""

    run: str
    round: int
    record: str
    is_over: bool
    prepared: bool
    """Whether the last model is durable here and the worker knows the task."""
    named: Sequence[Named]
    here: int
    """Members of the run that are in it and linked, this node included."""
    away: int
    """Members that are linked, but have another journal or are in another run."""
    members: int
    needed: int


class ContinuationStep(Enum):
    """What to do about the operator's wish to continue."""

    WAIT = "wait"
    FOUND = "found the new run"
    DROP = "there is nothing to continue"


def decide_continuing(outlook: Outlook) -> tuple[ContinuationStep, str]:
    """Return what to do, and why.

    Not before all the named have the last record any of them has: nothing a named node committed is lost.
    Not while a quorum of the old run is in sight of one of them: then it goes on by itself.
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


def _obstacle(outlook: Outlook, named: Named) -> str:
    """Say why *named* cannot be gone on with yet; empty when it can."""
    status = named.status
    if status is None:
        return f"{named.name} is not here"
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


class Follow(Enum):
    """What a node does about a run that continues its own."""

    MOVE = "close its own run and join the other"
    STAY = "go on: a majority of its run is here"
    STOP = "stop: it has committed more than the others went on from"


def decide_following(ledger: Ledger, origin: Origin, here: int) -> Follow:
    """Return what the node of *ledger* does about a run that left its own at *origin*."""
    if here >= ledger.needed:
        return Follow.STAY
    if ledger.round < origin.round or (ledger.round, ledger.digest) == (origin.round, origin.record):
        return Follow.MOVE
    return Follow.STOP


@dataclass
class Continuing:
    """The part of a node that continues a run, or meets one that continues its own."""

    ctx: Context
    wanted: frozenset[str]
    """The nodes to go on with; None of them means alone, see `is_wanted`."""
    is_wanted: bool
    """Whether the operator's wish is still open."""
    kin: dict[str, Genesis] = field(default_factory=dict)
    """Record 0 of runs that continue this node's own, by run."""
    beyond: str = ""
    """The run that makes this node stop unless a majority of its own shows up."""
    beyond_since: float = 0.0
    waiting: str = ""
    """What was told last about what the wish waits for."""
    said: set[tuple[str, str]] = field(default_factory=set)
    """What was said of which run: once is enough."""

    # --- at the operator's wish -----------------------------------------------------------------------------

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
        members = {self.ctx.me: self.ctx.name} | {peer.member: peer.name for peer in peers}
        origin = Origin(ledger.run, ledger.round, ledger.digest, ledger.trained)
        return msgspec.structs.replace(
            ledger.genesis,
            nonce=self.ctx.options.nonce,
            spec=msgspec.structs.replace(ledger.spec, rounds=ledger.rounds),
            roster=continued_roster(ledger.roster, members),
            model=ledger.model,
            continues=(*ledger.genesis.continues, origin)[-MAX_ORIGINS:],
        )

    def _outlook(self, ledger: Ledger, *, ready: bool) -> Outlook:
        named = []
        for node in sorted(self.wanted):
            peer = self.ctx.peers.get(node)
            named.append(
                Named(self.ctx.name_of(node), peer.status if peer is not None and peer.linked else None)
            )
        return Outlook(
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
        """Whether to leave the run of *ledger* for the one of *founding*, which continues it; say why not."""
        origin = genesis.origin_in(ledger.run)
        assert origin is not None
        run = record_digest(genesis)
        self._remember(run, genesis)
        verdict = decide_following(ledger, origin, self._here(ledger))
        if verdict is Follow.MOVE:
            return True
        if verdict is Follow.STAY:
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
        """Keep record 0 of a run that continues this one; made-up ones may come without end."""
        self.kin[run] = genesis
        for old in list(self.kin)[: max(0, len(self.kin) - MAX_KIN)]:
            if old != self.beyond:
                del self.kin[old]
        if len(self.said) > MAX_SAID:
            self.said.clear()

    def consider_stopping(self, ledger: Ledger) -> float | None:
        """End this node if it is beyond where others went on and its own run has no majority here.

        Return when to ask again. Members of its run may be starting too: they have as long as after a start.
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
        """Say that a run this one continues lives on elsewhere."""
        origin = ledger.genesis.origin_in(status.run)
        if origin is not None and status.round > origin.round:
            text = (
                f"{name} is at record {status.round} of run {status.run[:12]}, which this run continues from "
                f"record {origin.round}: there are two runs now"
            )
            self._say_once(status.run, Notice("warning", text))

    def tell_moved(self, ledger: Ledger, genesis: Genesis) -> None:
        """Say that this node turns away from the run of *ledger* for the one that continues it."""
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
