"""Foundings that came to nothing: when a node gives up a run without a commit, and what it remembers of it.

A run can be founded and never begin: nobody can pull its first model from the founder, the only device that
had the model lost its disk, too few can take part. Nothing is decided in such a run, so whoever is in it
becomes free again, and somebody else founds another one. Votes are kept all the same: should the run begin
elsewhere, a node that gave it up joins it once it has a commit. Before that it says to whoever is in the run,
also after a restart, that it does not take part.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec
from blake3 import blake3

from p2pfl.core.context import Context
from p2pfl.core.ledger import Ledger
from p2pfl.core.roster import contains

MODEL_TRIES = 2
"""Times the pull of a run's first model may fail before a node declines. Each time every holder was asked."""

PAUSE_SECONDS = 60.0
"""For so long the founder of a run that came to nothing founds no other one, and nobody who gave it up joins
it."""


COME_BACK_SECONDS = 5.0
"""For so long nobody joins a run that it gave up because too few were in it: by then all have left it but
those who cannot, as they have accepted something there."""

STAY_SECONDS = 15.0
"""For so long whoever joins it again waits for the others, who come back a little later."""


MAX_HOPELESS = 64
"""Runs remembered that came to nothing: peers can make up any number of them."""


TOO_FEW = "only"
"""The first word of the reason that is no cause, but follows from what others said."""


def _is_cause(reason: str) -> bool:
    return bool(reason) and not reason.startswith(TOO_FEW)


class Begun(msgspec.Struct, frozen=True):
    """A run without a commit, seen from a node that is in it."""

    is_member: bool
    holds: bool
    """Whether its first model is here."""
    failed: int
    """How often that could not be pulled."""
    here: int
    """Members that are in the run, this node included."""
    coming: int
    """Members that may still come into it: they are in no run, or without a link and not for long."""
    lost: int
    """Members that cannot come: they declined, have another journal, or were not here for a long time."""
    needed: int
    others: int
    """Peers that are linked."""
    reason: str
    """Why the last pull failed or the last member declined."""
    since: float
    """Since when this is so."""
    patience: float
    now: float


def decide_giving_up(begun: Begun) -> tuple[bool, str, float | None]:
    """Return whether to give the run up, why, and when to ask again if nothing changes."""
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
    """What one node remembers of them."""

    ctx: Context
    founded: str = ""
    """The run this process founded last."""
    _hopeless: dict[str, tuple[float, str]] = field(default_factory=dict)
    """Runs that came to nothing here: until when that holds, and why. Who has accepted something in such a
    run cannot leave it, and its model may be had later."""
    _failed: dict[str, tuple[float, str]] = field(default_factory=dict)
    """By founder: until when it founds no other run, and why."""
    _seen: tuple[object, ...] = ()
    _since: float = 0.0
    """Since when the run this node is in looks like that."""

    def is_hopeless(self, run: str) -> bool:
        """Whether *run* came to nothing here: it is not joined for a while, unless it has a commit."""
        until, _ = self._hopeless.get(run, (self.ctx.now, ""))
        return self.ctx.now < until

    def reason_of(self, run: str) -> str:
        """Return why *run* came to nothing here."""
        return self._hopeless[run][1]

    def give_up(self, run: str, reason: str, *, too_few: bool = False) -> None:
        """Take note that *run* came to nothing here, perhaps only because *too_few* were in it."""
        self._hopeless.pop(run, None)
        self._hopeless[run] = (
            self.ctx.now + (COME_BACK_SECONDS if too_few else PAUSE_SECONDS),
            reason or "it did not say why",
        )
        while len(self._hopeless) > MAX_HOPELESS:
            del self._hopeless[next(iter(self._hopeless))]

    def fail(self, node: str, reason: str) -> None:
        """Take note that a founding by *node* came to nothing."""
        self._failed[node] = self.ctx.now + PAUSE_SECONDS, reason

    def failed(self) -> dict[str, str]:
        """Return who founds nothing for now, and why."""
        return {node: reason for node, (until, reason) in self._failed.items() if self.ctx.now < until}

    @property
    def next_try(self) -> float | None:
        """When the first of them may found again."""
        return min((until for until, _ in self._failed.values() if self.ctx.now < until), default=None)

    def new_nonce(self) -> str:
        """Return another nonce than the last one: of the same members it makes another run."""
        return blake3(f"{self.ctx.options.nonce}/again".encode()).hexdigest()[:32]

    def consider(self, ledger: Ledger, failed: int, reason: str) -> tuple[bool, str, float | None]:
        """Decide about the run this node is in, which has no commit; see `decide_giving_up`."""
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
            Begun(
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
