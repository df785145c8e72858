"""How much one peer may send: a budget for each kind of frame, filled again with time.

An honest node sends some frames a second, and some thousands where rounds take milliseconds. Everything it
sends costs the receiver: time to decode, an answer from the journal, a line on a screen. So each kind has a
*rate* and a *burst*, far above what honest nodes need (`BUDGETS` says why). What is beyond is not looked at.
A peer that goes on has its link cut and is turned away for a while.

Budgets belong to nodes, not to links: a new link fills none.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

from p2pfl import messages
from p2pfl.wire import links
from p2pfl.wire.codec import ControlFrame


class Budget(NamedTuple):
    """What a peer may send of one kind of frame."""

    rate: float
    """Frames a second, for ever."""
    burst: float
    """Frames at once; as many beyond the budget are dropped before the link is cut."""


ROUNDS = Budget(3000, 15_000)
"""Messages of rounds, STATUS and pings: a round of a few milliseconds takes ten of a peer."""

BUDGETS: dict[type, Budget] = {
    messages.Offer: Budget(2, 20),  # one a run, repeated each second until it is taken
    messages.Card: Budget(2, 40),  # on a new link, and with each STATUS of a node that is no member
    messages.DeviceInfo: Budget(1, 20),  # on a new link, and when a device or its data changed
    messages.Decline: Budget(
        20, 200
    ),  # an answer to each STATUS of a run without a commit that came to nothing
    messages.ControlRequest: Budget(
        5, 100
    ),  # an operator's hand, relayed, and repeated to whoever comes to a round
    messages.RecordsRequest: Budget(
        50, 500
    ),  # each is answered with a megabyte: who catches up waits for each answer
    messages.Records: Budget(100, 1000),  # the answers, and to messages of rounds that are decided
    messages.Report: Budget(200, 2000),  # one a round
    messages.Commit: Budget(200, 2000),  # one a round; each has a quorum's signatures to check
    messages.Promise: Budget(1000, 5000),  # one for each candidate of a round; each has a signature to check
    messages.Accepted: Budget(1000, 5000),  # the same
    links.Peers: Budget(5, 600),  # one on a new link, and one for each node that is linked there later
    links.Call: Budget(50, 1000),  # one for each bulk connection that the caller cannot make: four at a time
    links.CallFailed: Budget(50, 1000),  # the answers
}
"""By kind of frame; all others are messages of rounds."""

BYTES = Budget(32 * 2**20, 512 * 2**20)
"""Bytes of all frames: records of a long run come as fast as a network is, for some seconds."""

LINKS = Budget(0.5, 30)
"""New links: a bad network makes one every few seconds."""

SILENT = 600.0
"""Seconds after which nothing is remembered of a node that sent nothing."""

MAX_REMEMBERED = 1024
"""Nodes of which is remembered what they sent: four times the largest roster."""


class Verdict(Enum):
    """What to do with a frame."""

    TAKE = "take it"
    DROP = "it is too much: do not look at it"
    CUT = "it goes on: end the link"


class Bucket:
    """What is left of one budget."""

    def __init__(self, budget: Budget, now: float) -> None:
        self._budget = budget
        self._left = budget.burst
        self._at = now

    def take(self, amount: float, now: float) -> Verdict:
        """Take *amount* out. Beyond the budget that is a debt, which grows up to another burst."""
        rate, burst = self._budget
        self._left = min(burst, self._left + (now - self._at) * rate) - amount
        self._at = now
        if self._left >= 0:
            return Verdict.TAKE
        if self._left < -burst:
            self._left = -burst
            return Verdict.CUT
        return Verdict.DROP


class Allowance:
    """What is left of the budgets of one node."""

    def __init__(self, now: float) -> None:
        self._buckets: dict[type, Bucket] = {}
        self._bytes = Bucket(BYTES, now)
        self._links = Bucket(LINKS, now)
        self.used_at = now
        self.barred_until = 0.0
        """Until then the node gets no link."""
        self.barred_for = ""

    def take(self, frame: ControlFrame, now: float) -> Verdict:
        """Return what to do with *frame*."""
        self.used_at = now
        kind = type(frame) if type(frame) in BUDGETS else object
        bucket = self._buckets.get(kind)
        if bucket is None:
            bucket = self._buckets[kind] = Bucket(BUDGETS.get(kind, ROUNDS), now)
        return bucket.take(1, now)

    def take_bytes(self, size: int, now: float) -> Verdict:
        """Return what to do about *size* bytes that have arrived: they are taken, or the link is cut."""
        verdict = self._bytes.take(size, now)
        return verdict if verdict is Verdict.CUT else Verdict.TAKE

    def link(self, now: float) -> Verdict:
        """Return whether the node may have one more link."""
        self.used_at = now
        return self._links.take(1, now)


class Gate:
    """Judges what arrives on one link."""

    def __init__(self, node: str, allowances: Allowances, tell: Callable[[str], None]) -> None:
        """Judge the frames of *node*; *tell* is told of what it sends too much."""
        self._node = node
        self._allowances = allowances
        self._tell = tell

    def judge(self, what: ControlFrame | int) -> Verdict:
        """Return what to do with a frame, or with a number of bytes; who is to be cut is turned away."""
        allowance, now = self._allowances.of(self._node), self._allowances.now
        if isinstance(what, int):
            verdict, kind = allowance.take_bytes(what, now), "bytes"
        else:
            verdict, kind = allowance.take(what, now), type(what).__name__.upper()
        if verdict is Verdict.DROP:
            self._tell(f"it sends more {kind} than any node needs; what is too much is not looked at")
        elif verdict is Verdict.CUT:
            self._allowances.bar(self._node, f"it sent {kind} without end")
        return verdict


class Allowances:
    """What is left of the budgets of all nodes, linked or not."""

    def __init__(self, clock: Callable[[], float], barred_seconds: float) -> None:
        self._clock = clock
        self._barred_seconds = barred_seconds
        self._nodes: dict[str, Allowance] = {}

    def of(self, node: str) -> Allowance:
        """Return the allowance of *node*."""
        allowance = self._nodes.get(node)
        if allowance is None:
            self._make_room()
            allowance = self._nodes[node] = Allowance(self._clock())
        return allowance

    @property
    def now(self) -> float:
        """The time, in seconds of the clock."""
        return self._clock()

    def count_link(self, node: str) -> None:
        """Take note of a new link to *node*; turn it away if there are too many."""
        if self.of(node).link(self._clock()) is not Verdict.TAKE:
            self.bar(node, "it makes new links without end")

    def bar(self, node: str, reason: str) -> None:
        """Turn *node* away for a while because of *reason*."""
        allowance = self.of(node)
        allowance.barred_until, allowance.barred_for = self._clock() + self._barred_seconds, reason

    def objection(self, node: str) -> str:
        """Return why *node* gets no link now; empty where it may."""
        allowance, now = self._nodes.get(node), self._clock()
        if allowance is None or now >= allowance.barred_until:
            return ""
        return f"{allowance.barred_for}; it is turned away for {self._barred_seconds:g} s"

    def _make_room(self) -> None:
        if len(self._nodes) < MAX_REMEMBERED:
            return
        now = self._clock()
        old = [node for node, one in self._nodes.items() if now - one.used_at > SILENT]
        for node in old or [min(self._nodes, key=lambda node: self._nodes[node].used_at)]:
            del self._nodes[node]
