"""Decides when a node abandons a run that was founded but never began, and remembers such runs.

A founded run may never begin: no node can pull its first model from the founder, the only device with the
model lost its disk, or too few nodes can take part. Nothing is decided in a run without a commit, so its
nodes become free again and another node founds another run. Votes are kept nevertheless: if the abandoned run
begins elsewhere, a node that abandoned it joins it once it has a commit. Until then it declines the run to
its members, also after a restart.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec
from blake3 import blake3

from p2pfl.core.context import Context
from p2pfl.core.ledger import Ledger
from p2pfl.core.roster import contains

MODEL_TRIES = 2
"""Failed pulls of a run's first model before a node declines the run. Each pull asks every holder."""

PAUSE_SECONDS = 60.0
"""After a run is abandoned, its founder founds no other run and no node joins the abandoned run for this
long."""


COME_BACK_SECONDS = 5.0
"""A node does not rejoin a run that it abandoned for lack of members for this long. By then every node has
left the run except those that have accepted a record in it."""

STAY_SECONDS = 15.0
"""A node that rejoins such a run waits this long for the others to rejoin."""


MAX_HOPELESS = 64
"""Maximum number of remembered abandoned runs, since peers can invent any number of runs."""


TOO_FEW = "only"
"""First word of a reason that only follows from the reasons of others."""


def _is_cause(reason: str) -> bool:
    return bool(reason) and not reason.startswith(TOO_FEW)


class UnbegunRun(msgspec.Struct, frozen=True):
    """A run without a commit, as seen by a node in it."""

    is_member: bool
    holds: bool
    """Whether its first model is here."""
    failed: int
    """Number of failed pulls of that model."""
    here: int
    """Number of members in the run, this node included."""
    coming: int
    """Number of members that may still join: in no run, or without a link for a short time only."""
    lost: int
    """Number of members that cannot join: they declined, have another journal, or have been absent for
    long."""
    needed: int
    others: int
    """Number of linked peers."""
    reason: str
    """Why the last pull failed or the last member declined."""
    since: float
    """Since when this has been the situation."""
    patience: float
    now: float


def decide_giving_up(begun: UnbegunRun) -> tuple[bool, str, float | None]:
    """Return whether to abandon the run, why, and when to ask again if nothing changes."""
    if not begun.others:
        return False, "nobody is here", None
    if not begun.holds:
        if begun.failed >= MODEL_TRIES:
            return True, f"nobody who is here has its first model: {begun.reason}", None
        return False, "its first model is being pulled", None
    if begun.here + begun.coming >= begun.needed or not (begun.lost or not begun.is_member):
        return False, f"{begun.here} of {begun.needed} members are in it", None
    at = begun.since + begun.patience
    if begun.now < at:
        return False, "too few members can take part", at
    why = f": {begun.reason}" if begun.reason else ""
    return True, f"{TOO_FEW} {begun.here} of its members can take part, {begun.needed} are needed{why}", None


@dataclass
class AbandonedRuns:
    """The abandoned runs that one node remembers."""

    ctx: Context
    founded: str = ""
    """The run that this process founded last."""
    _hopeless: dict[str, tuple[float, str]] = field(default_factory=dict)
    """By abandoned run: until when it is not joined, and why. A node that has accepted a record in such a run
    cannot leave it, so the run may still begin later."""
    _failed: dict[str, tuple[float, str]] = field(default_factory=dict)
    """By founder: until when that node founds no other run, and why."""
    _seen: tuple[object, ...] = ()
    _since: float = 0.0
    """Since when this node's run has been in its present situation."""

    def is_hopeless(self, run: str) -> bool:
        """Whether this node abandoned *run* lately, so does not join it unless it has a commit."""
        until, _ = self._hopeless.get(run, (self.ctx.now, ""))
        return self.ctx.now < until

    def reason_of(self, run: str) -> str:
        """Return why this node abandoned *run*."""
        return self._hopeless[run][1]

    def give_up(self, run: str, reason: str, *, too_few: bool = False) -> None:
        """Remember that this node abandons *run*; *too_few* says that only members were missing."""
        self._hopeless.pop(run, None)
        self._hopeless[run] = (
            self.ctx.now + (COME_BACK_SECONDS if too_few else PAUSE_SECONDS),
            reason or "it did not say why",
        )
        while len(self._hopeless) > MAX_HOPELESS:
            del self._hopeless[next(iter(self._hopeless))]

    def fail(self, node: str, reason: str) -> None:
        """Remember that a run founded by *node* did not begin."""
        self._failed[node] = self.ctx.now + PAUSE_SECONDS, reason

    def failed(self) -> dict[str, str]:
        """Return the nodes that found no run for now, each with the reason."""
        return {node: reason for node, (until, reason) in self._failed.items() if self.ctx.now < until}

    @property
    def next_try(self) -> float | None:
        """Return when the first of them may found a run again."""
        return min((until for until, _ in self._failed.values() if self.ctx.now < until), default=None)

    def new_nonce(self) -> str:
        """Return a new nonce, so that the same members get another run id."""
        return blake3(f"{self.ctx.options.nonce}/again".encode()).hexdigest()[:32]

    def consider(self, ledger: Ledger, failed: int, reason: str) -> tuple[bool, str, float | None]:
        """Apply `decide_giving_up` to this node's run, which has no commit."""
        ctx, drop_after = self.ctx, ledger.spec.participation.drop_after
        roster = [(entry, ctx.peers.get(entry.node)) for entry in ledger.roster if entry.node != ctx.me.node]
        linked = [(entry, peer) for entry, peer in roster if peer is not None and peer.linked]
        away = {entry.node: ctx.unlinked_since(entry.node) for entry, _ in roster}
        lost = {
            node: "" for node, since in away.items() if since is not None and since + drop_after <= ctx.now
        } | {
            entry.node: peer.declined_because
            for entry, peer in linked
            if peer.member != entry.member or peer.declined == ledger.run
        }
        here = {
            entry.node
            for entry, peer in linked
            if entry.node not in lost and peer.status is not None and peer.status.run == ledger.run
        }
        coming = {
            entry.node
            for entry, peer in linked
            if entry.node not in lost and (peer.status is None or not peer.status.run)
        }
        coming |= {node for node, since in away.items() if since is not None} - lost.keys()
        is_member = contains(ledger.roster, ctx.me)
        seen = (ledger.run, frozenset(here), frozenset(coming), frozenset(lost), ledger.holds)
        if seen != self._seen:
            self._seen, self._since = seen, ctx.now
        return decide_giving_up(
            UnbegunRun(
                is_member=is_member,
                holds=ledger.holds,
                failed=failed,
                here=len(here) + is_member,
                coming=len(coming),
                lost=len(lost),
                needed=ledger.needed,
                others=sum(peer.linked for peer in ctx.peers.values()),
                reason=reason if not ledger.holds else next(filter(_is_cause, lost.values()), ""),
                since=self._since,
                patience=STAY_SECONDS if ledger.run in self._hopeless else ctx.settings.steady,
                now=ctx.now,
            )
        )
