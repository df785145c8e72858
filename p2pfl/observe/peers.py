"""Peers as an observer sees them, with their current activity."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from p2pfl.events import CountedUpdate, LinkMeasure, MemberScore, PeerDeviceInfo, PeerStatus, ProgressMade
from p2pfl.observe.rounds import OpenRound

ActivityKind = Literal[
    "train", "sending", "trained", "merged", "refused", "collect", "average", "propose", "elected",
    "waiting", "late", "starting", "learner", "paused", "leaving", "left", "lost", "absent", "done",
    "kicked", "banned", "revoked",
]  # fmt: skip
"""A peer's activity, or the reason for having none: "late" trains longer than predicted, "lost" has lost its
connection, "left" left on request, "absent" never connected, "refused" had its update refused; "kicked",
"banned" and "revoked" are kept out by an operator or the CA."""

MAX_RTTS = 120
"""Round-trip times kept per peer: two minutes."""

MAX_TRANSFERS = 64
"""Concurrent transfers kept; a node has fewer."""

TRANSFER_SECONDS = 5.0
"""A transfer without progress for so long is removed."""

LATE_FACTOR = 1.5
"""A peer is late when its training takes longer than this multiple of its own prediction. The straggler
deadline uses the same factor."""


class Activity(NamedTuple):
    """What a peer does now."""

    kind: ActivityKind
    progress: float | None = None
    """Completed share, from 0 to 1; None if unknown."""
    detail: str = ""
    """A short addition: the number of updates."""


@dataclass
class Transfer:
    """A model transfer between the observed node and a peer."""

    what: Literal["pull", "push"]
    peer: str
    done: int
    total: int
    began_at: float
    at: float
    """Time of its last progress report."""
    began_with: int = 0
    """Bytes already transferred at its first report."""

    @property
    def rate(self) -> float:
        """Bytes per second since its first report."""
        return (self.done - self.began_with) / (self.at - self.began_at) if self.at > self.began_at else 0.0


def update_transfers(transfers: dict[tuple[str, str], Transfer], event: ProgressMade, time: float) -> None:
    """Update *transfers*, keyed by direction and peer, and remove those without progress."""
    key = (event.what, event.peer)
    known = transfers.get(key)
    if known is None or event.done < known.done or event.total != known.total:
        what: Literal["pull", "push"] = "pull" if event.what == "pull" else "push"
        known = transfers[key] = Transfer(what, event.peer, event.done, event.total, time, time, event.done)
    known.done, known.at = event.done, time
    if event.done >= event.total:
        del transfers[key]
    for gone in [k for k, one in transfers.items() if time - one.at > TRANSFER_SECONDS]:
        del transfers[gone]
    while len(transfers) > MAX_TRANSFERS:
        del transfers[next(iter(transfers))]


@dataclass
class Peer:
    """One node of the federation; the observed node too."""

    name: str
    node: str = ""
    """Its node id; empty if only its name is known."""
    address: str = ""
    is_me: bool = False
    """Whether it is the observed node."""
    is_member: bool = False
    linked: bool = False
    since: float | None = None
    """Time its link was made or lost; None if it never had one."""
    links_made: int = 0
    lost_reason: str = ""
    leaving: bool = False
    status: PeerStatus | None = None
    training_since: float | None = None
    device_info: PeerDeviceInfo | None = None
    rtt: float | None = None
    rtts: deque[float] = field(default_factory=lambda: deque(maxlen=MAX_RTTS))
    sent: int = 0
    """Bytes the observed node has sent to it."""
    received: int = 0
    up: float = 0.0
    """Bytes per second that the observed node sends to it, over the last interval."""
    down: float = 0.0
    score: MemberScore | None = None
    """Its evaluation of the last evaluated model."""
    update: CountedUpdate | None = None
    """Its last update in a committed round."""
    aggregated: int = 0
    """Kept rounds it was the aggregator of."""
    counted: int = 0
    left_out: int = 0

    def take_status(self, status: PeerStatus, time: float) -> None:
        """Take its own status report."""
        before = self.status
        if status.phase == "training" and (
            before is None or (before.phase, before.round) != (status.phase, status.round)
        ):
            self.training_since = time
        self.status = status
        self.is_member = status.is_member

    def take_traffic(self, link: LinkMeasure, seconds: float) -> None:
        """Take the link's counters, *seconds* after the previous ones (0 for the first)."""
        if seconds > 0:
            self.up = max(0.0, (link.sent - self.sent) / seconds)
            self.down = max(0.0, (link.received - self.received) / seconds)
        self.sent, self.received = link.sent, link.received
        if link.rtt is not None:
            self.rtt = link.rtt
            self.rtts.append(link.rtt)

    @property
    def is_connected(self) -> bool:
        """Whether the observed node is linked to it, or it is that node."""
        return self.is_me or self.linked


def activity_of(  # noqa: C901 - a list of cases, the most important first
    peer: Peer, open_: OpenRound | None, *, is_paused: bool, now: float, transfer: Transfer | None = None
) -> Activity:
    """Return the activity of *peer* in the open round."""
    if not peer.is_connected:
        if peer.since is None:
            return Activity("absent")
        return Activity("left" if peer.leaving else "lost")
    status = peer.status
    if status is not None and status.ended:
        return Activity("done")
    if peer.leaving or (status is not None and status.phase == "leaving"):
        return Activity("leaving")
    if status is None or status.phase == "starting":
        return Activity("starting" if status is not None else "waiting")
    if status.run and not peer.is_member:
        return Activity("learner")
    if is_paused:
        return Activity("paused")
    if open_ is not None:
        if open_.aggregator == peer.name and status.phase != "training":
            return _aggregating(open_)
        if peer.name in open_.refused:
            return Activity("refused")
        if peer.name in open_.counted:
            return Activity("merged")
    if status.phase == "training":
        since = peer.training_since
        is_late = (
            since is not None and status.predicted > 0 and now - since > LATE_FACTOR * status.predicted + 1
        )
        return Activity("late" if is_late else "train", status.progress)
    if transfer is not None and transfer.total and transfer.done < transfer.total:
        return Activity("sending", transfer.done / transfer.total)
    if status.phase == "aggregating":
        is_over = open_ is not None and open_.aggregator not in ("", peer.name)
        return Activity("trained" if is_over else "elected")
    if status.phase == "trained":
        return Activity("trained")
    return Activity("waiting")


def _aggregating(open_: OpenRound) -> Activity:
    if open_.proposed_at is not None:
        return Activity("propose")
    if open_.counted:
        return Activity("collect", detail=str(len(open_.counted)))
    if open_.trained:  # there are updates to collect; only the aggregator knows how many it has
        return Activity("collect")
    return Activity("elected")
