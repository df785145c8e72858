"""Limits how much each peer may send: token buckets for each kind of frame, for bytes, and for new links.

An honest node sends a few frames a second, and thousands where rounds take milliseconds. Each frame costs
the receiver: decoding, an answer from the journal, a line on a screen. So each kind has a *rate* and a
*burst*, far above what an honest node needs (`FRAME_LIMITS` gives the reasons). Frames beyond the limit are
dropped. A peer that still continues is disconnected and banned for a while.

A limit belongs to a node, not to a link: a new link does not refill its buckets.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

from p2pfl import messages
from p2pfl.wire import links
from p2pfl.wire.codec import ControlFrame


class RateLimit(NamedTuple):
    """What a peer may send of one kind."""

    rate: float
    """Frames (or bytes, or links) a second."""
    burst: float
    """Frames at once; as many beyond the limit are dropped before the link is cut."""


DEFAULT_LIMIT = RateLimit(3000, 15_000)
"""For messages of rounds, STATUS and pings: in a round of a few milliseconds a peer sends ten."""

FRAME_LIMITS: dict[type, RateLimit] = {
    # One for each run, repeated each second until it is accepted.
    messages.Offer: RateLimit(2, 20),
    # On a new link, and with each STATUS of a node that is no member.
    messages.Card: RateLimit(2, 40),
    # On a new link, and when a device or its data has changed.
    messages.DeviceInfo: RateLimit(1, 20),
    # The answer to each STATUS of a run that ended without a commit.
    messages.Decline: RateLimit(20, 200),
    # Entered by an operator, relayed, and repeated to each node that enters a round.
    messages.ControlRequest: RateLimit(5, 100),
    # The answer has a megabyte, and a node that catches up waits for it before its next request.
    messages.RecordsRequest: RateLimit(50, 500),
    # Those answers, and answers to messages of decided rounds.
    messages.Records: RateLimit(100, 1000),
    # One a round.
    messages.Report: RateLimit(200, 2000),
    # One a round; the receiver checks a quorum of signatures.
    messages.Commit: RateLimit(200, 2000),
    # One for each candidate of a round; the receiver checks one signature.
    messages.Promise: RateLimit(1000, 5000),
    messages.Accepted: RateLimit(1000, 5000),
    # One on a new link, and one for each node that the peer links to later.
    links.Peers: RateLimit(5, 600),
    # One for each bulk connection that the puller cannot dial (four at a time), and the answers.
    links.Call: RateLimit(50, 1000),
    links.CallFailed: RateLimit(50, 1000),
    # One on a new link. The others: one in a third of a certificate's life, which has a minute or more, and
    # retries after failures. The receiver reads the CA's key, which may be encrypted, and signs.
    links.CanRenew: RateLimit(1, 20),
    links.Renew: RateLimit(0.2, 10),
    links.Renewed: RateLimit(0.2, 10),
    links.RenewalRefused: RateLimit(0.2, 10),
    # All on a new link, up to eight frames, and one for each new statement; each is verified.
    links.Statements: RateLimit(2, 60),
    # One on a new link, and one for each list that the CA makes.
    links.RevocationList: RateLimit(0.5, 20),
}
"""By kind of frame; all others have `DEFAULT_LIMIT`."""

BYTE_LIMIT = RateLimit(32 * 2**20, 512 * 2**20)
"""For the bytes of all frames: the records of a long run arrive at full network speed for some seconds."""

LINK_LIMIT = RateLimit(0.5, 30)
"""For new links: on a bad network a node needs one every few seconds."""

IDLE_SECONDS = 600.0
"""The buckets of a node that has sent nothing for so long are dropped first."""

MAX_REMEMBERED = 1024
"""Nodes whose buckets are kept: four times the largest roster."""


class RateDecision(Enum):
    """What to do with a frame."""

    ACCEPT = "within the limit: handle it"
    DROP = "beyond the limit: ignore it"
    DISCONNECT = "far beyond the limit: end the link"


class TokenBucket:
    """The tokens left of one rate limit."""

    def __init__(self, limit: RateLimit, now: float) -> None:
        self._limit = limit
        self._tokens = limit.burst
        self._updated_at = now

    def take(self, amount: float, now: float) -> RateDecision:
        """Take *amount* tokens. The count may become negative, down to another burst."""
        rate, burst = self._limit
        self._tokens = min(burst, self._tokens + (now - self._updated_at) * rate) - amount
        self._updated_at = now
        if self._tokens >= 0:
            return RateDecision.ACCEPT
        if self._tokens < -burst:
            self._tokens = -burst
            return RateDecision.DISCONNECT
        return RateDecision.DROP


class NodeQuota:
    """The token buckets of one node, and its ban."""

    def __init__(self, now: float) -> None:
        self._frames: dict[type, TokenBucket] = {}
        self._bytes = TokenBucket(BYTE_LIMIT, now)
        self._links = TokenBucket(LINK_LIMIT, now)
        self.used_at = now
        self.banned_until = 0.0
        self.ban_reason = ""

    def take(self, frame: ControlFrame, now: float) -> RateDecision:
        """Return what to do with *frame*."""
        self.used_at = now
        kind = type(frame) if type(frame) in FRAME_LIMITS else object
        bucket = self._frames.get(kind)
        if bucket is None:
            bucket = self._frames[kind] = TokenBucket(FRAME_LIMITS.get(kind, DEFAULT_LIMIT), now)
        return bucket.take(1, now)

    def take_bytes(self, size: int, now: float) -> RateDecision:
        """Return what to do about *size* received bytes: ACCEPT or DISCONNECT."""
        decision = self._bytes.take(size, now)
        return decision if decision is RateDecision.DISCONNECT else RateDecision.ACCEPT

    def take_link(self, now: float) -> RateDecision:
        """Return whether the node may have one more link."""
        self.used_at = now
        return self._links.take(1, now)


class LinkRateLimiter:
    """Applies the limits of one node to what arrives on a link."""

    def __init__(self, node: str, quotas: Quotas, notify: Callable[[str], None]) -> None:
        """Limit the frames of *node*; *notify* is called with a sentence when some are dropped."""
        self._node = node
        self._quotas = quotas
        self._notify = notify

    def check(self, what: ControlFrame | int) -> RateDecision:
        """Return what to do with a frame, or with a number of bytes; DISCONNECT also bans the node."""
        quota, now = self._quotas.of(self._node), self._quotas.now
        if isinstance(what, int):
            decision, kind = quota.take_bytes(what, now), "bytes"
        else:
            decision, kind = quota.take(what, now), type(what).__name__.upper()
        if decision is RateDecision.DROP:
            self._notify(f"it sends more {kind} than any node needs; the excess is ignored")
        elif decision is RateDecision.DISCONNECT:
            self._quotas.ban(self._node, f"it sent too many {kind}")
        return decision


class Quotas:
    """The quotas of all nodes, linked or not."""

    def __init__(self, clock: Callable[[], float], ban_seconds: float) -> None:
        self._clock = clock
        self._ban_seconds = ban_seconds
        self._nodes: dict[str, NodeQuota] = {}

    def of(self, node: str) -> NodeQuota:
        """Return the quota of *node*."""
        quota = self._nodes.get(node)
        if quota is None:
            self._make_room()
            quota = self._nodes[node] = NodeQuota(self._clock())
        return quota

    @property
    def now(self) -> float:
        """The time, in seconds of the clock."""
        return self._clock()

    def count_link(self, node: str) -> None:
        """Count a new link to *node*; ban the node if there are too many."""
        if self.of(node).take_link(self._clock()) is not RateDecision.ACCEPT:
            self.ban(node, "it makes too many new links")

    def ban(self, node: str, reason: str) -> None:
        """Refuse links to *node* for a while because of *reason*."""
        quota = self.of(node)
        quota.banned_until, quota.ban_reason = self._clock() + self._ban_seconds, reason

    def ban_reason(self, node: str) -> str:
        """Return why *node* is banned now; empty if it is not."""
        quota = self._nodes.get(node)
        if quota is None or self._clock() >= quota.banned_until:
            return ""
        return f"{quota.ban_reason}; it is banned for {self._ban_seconds:g} s"

    def _make_room(self) -> None:
        if len(self._nodes) < MAX_REMEMBERED:
            return
        now = self._clock()
        old = [node for node, one in self._nodes.items() if now - one.used_at > IDLE_SECONDS]
        for node in old or [min(self._nodes, key=lambda node: self._nodes[node].used_at)]:
            del self._nodes[node]
