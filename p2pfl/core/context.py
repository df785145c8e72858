"""State that the parts of one node share: its identity, its peers, the input's time, the effects so far."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from p2pfl.cards import DataCard
from p2pfl.config import ProtocolSettings
from p2pfl.core.effects import AnyEffect, Send, Sever, Tell
from p2pfl.core.options import Options, Policy
from p2pfl.events import AnyEvent, Notice
from p2pfl.messages import Ballot, DeviceInfo, Member, Message, RosterEntry, SignedVote, Status
from p2pfl.proofs import CastVote, Signer, sign_vote

COMPLAINT_SECONDS = 60.0
"""Minimum time between two complaints of one kind about one node."""

MAX_COMPLAINTS = 1024
"""Maximum number of remembered complaints, so that no peer can make this node's memory grow."""


@dataclass
class PeerView:
    """What is known of one peer. It is kept when the link ends."""

    member: Member
    name: str
    linked: bool = False
    ever_linked: bool = False
    """Whether there was a link to it since this node's start."""
    since: float = 0.0
    """When its link came up or went down."""
    status: Status | None = None
    """Its last Status; None on a new link until one arrives."""
    moved_at: float = 0.0
    """Time of the peer's last progress report."""
    card: DataCard | None = None
    """Its last DataCard on this link."""
    device_info: DeviceInfo | None = None
    """Its last DeviceInfo on this link."""
    run_since: float = 0.0
    """When it first reported its present run, or that it is in none."""
    last_run: str = ""
    """The last run that it reported to be in."""
    lacking_since: float | None = None
    """When it first reported that it lacks the last model it knows of; None while it has the model."""
    declined: str = ""
    """The run that it declined, unless it has joined that run since."""
    declined_because: str = ""
    undeliverable: str = ""
    """Why this node could not pull the last blob that only this peer had; empty when it could."""

    @property
    def is_leaving(self) -> bool:
        """Whether it asked to be removed from the roster."""
        return self.status is not None and self.status.phase == "leaving"

    def hear(self, status: Status, now: float) -> None:
        """Store its *status*, received at *now*."""
        before, self.status = self.status, status
        if before is None or (before.round, before.progress) != (status.round, status.progress):
            self.moved_at = now
        if before is None or before.run != status.run:
            self.run_since = now
        self.last_run = status.run or self.last_run
        if status.run and self.declined == status.run:
            self.declined = ""
        if status.holds or not status.run:
            self.lacking_since = None
        elif self.lacking_since is None:
            self.lacking_since = now


@dataclass
class Context:
    """The only mutable state that the parts of a node share."""

    me: Member
    name: str
    settings: ProtocolSettings
    options: Options
    policy: Policy
    signer: Signer
    now: float = 0.0
    started: float = 0.0
    effects: list[AnyEffect] = field(default_factory=list)
    peers: dict[str, PeerView] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    """Name by node id, from links and rosters."""
    run: str = ""
    """Id of the run that this node is in; empty while it is in none."""
    card: DataCard | None = None
    """This node's own data card; None until its worker has described the data."""
    is_begun: bool = False
    """Whether that run has a commit. From then on a member that does not report this run counts as absent."""
    unserved: dict[str, str] = field(default_factory=dict)
    """Reason by node, for nodes that reported that they could not pull this node's last model."""
    votes: int = 0
    """Number of votes that this journal has cast, including those whose save is among the pending effects."""
    seen: dict[Member, CastVote] = field(default_factory=dict)
    """The newest vote of each other member since this node's start."""
    banned: Mapping[str, str] = field(default_factory=dict)
    """The nodes that are banned, with the reason."""
    kicked: dict[str, tuple[str, float]] = field(default_factory=dict)
    """The members that were kicked and are in the roster still, with the reason and the time."""
    _complained: dict[tuple[str, str], float] = field(default_factory=dict)

    def do(self, effect: AnyEffect) -> None:
        """Append *effect* to the effects of this input."""
        self.effects.append(effect)

    def send(self, to: str, message: Message) -> None:
        """Send *message* to node *to* if it is linked."""
        if self.is_linked(to):
            self.effects.append(Send(to, message))

    def broadcast(self, message: Message) -> None:
        """Send *message* to every linked peer."""
        for node, peer in self.peers.items():
            if peer.linked:
                self.effects.append(Send(node, message))

    def tell(self, event: AnyEvent) -> None:
        """Publish *event*."""
        self.effects.append(Tell(event))

    def warn(self, text: str) -> None:
        """Publish *text* as a warning."""
        self.effects.append(Tell(Notice("warning", text)))

    def complain(self, node: str, kind: str, text: str) -> None:
        """Publish a warning about *node*, at most once in `COMPLAINT_SECONDS` for each *kind*."""
        key = (node, kind)
        told = self._complained.get(key)
        if told is not None and self.now < told + COMPLAINT_SECONDS:
            return
        if len(self._complained) >= MAX_COMPLAINTS:
            self._complained.clear()
        self._complained[key] = self.now
        self.warn(text)

    def sign(self, run: str, round_: int, ballot: Ballot, record: str = "") -> SignedVote:
        """Return this node's signed vote: its acceptance of *record*, or without a record its promise."""
        return sign_vote(self.signer, self.me, run, round_, ballot, record, self.votes)

    def learn_vote(self, cast: CastVote) -> None:
        """Remember a verified vote of another member."""
        vote = cast.vote
        newest = self.seen.get(vote.member)
        if vote.member != self.me and (newest is None or newest.vote.votes < vote.votes):
            self.seen[vote.member] = cast

    def takes_vote(self, cast: CastVote) -> bool:
        """Remember a verified vote that a member sent here; return whether it counts.

        A journal that shows fewer votes than before has forgotten some. Its link ends, and the next handshake
        tells it why.
        """
        vote = cast.vote
        newest = self.seen.get(vote.member)
        if newest is not None and not self.policy.current(vote.votes, newest.vote.votes):
            text = (
                f"{self.name_of(vote.node)} shows {vote.votes} votes, and {newest.vote.votes} were seen: its "
                "data directory is a copy or was restored from a backup, so its vote does not count. "
                "Start that node with --new-journal"
            )
            self.complain(vote.node, "forgotten votes", text)
            self.do(Sever(vote.node, "it shows fewer votes than it has cast"))
            return False
        self.learn_vote(cast)
        return True

    def is_linked(self, node: str) -> bool:
        """Whether there is a link to *node* now."""
        peer = self.peers.get(node)
        return peer is not None and peer.linked

    def is_reachable(self, node: str) -> bool:
        """Whether *node* is this node or linked."""
        return node == self.me.node or self.is_linked(node)

    def unlinked_since(self, node: str) -> float | None:
        """Return since when *node* has had no link (this node's start at the earliest); None if linked."""
        if self.is_reachable(node):
            return None
        peer = self.peers.get(node)
        return peer.since if peer is not None and peer.ever_linked else self.started

    def absent_since(self, entry: RosterEntry) -> float | None:
        """Return since when the member *entry* has been unable to take part; None while it can.

        It cannot take part while it is not linked, has another journal, is in another run, or lacks the last
        model.
        """
        if entry.node == self.me.node:
            return None
        peer = self.peers.get(entry.node)
        if peer is None or not peer.linked:
            return self.unlinked_since(entry.node)
        if peer.member.journal != entry.journal:
            return peer.since
        if self._is_elsewhere(peer):
            return max(peer.since, peer.run_since)
        return peer.lacking_since

    def gone_at(self, node: str) -> float | None:
        """Return when *node* counts as gone (rule "Closing a round"); None while it is present."""
        peer = self.peers.get(node)
        if self.is_reachable(node):
            return (
                peer.since + self.settings.start_grace if peer is not None and peer.status is None else None
            )
        if peer is not None and peer.ever_linked:
            return peer.since + self.settings.gone
        return self.started + self.settings.start_grace

    def is_seated(self, entry: RosterEntry) -> bool:
        """Whether the member *entry* is linked with its journal of the roster, and in this run."""
        if entry.node == self.me.node:
            return entry.journal == self.me.journal
        peer = self.peers.get(entry.node)
        return self._is_seated(peer, entry)

    def _is_seated(self, peer: PeerView | None, entry: RosterEntry) -> bool:
        return (
            peer is not None
            and peer.linked
            and peer.member.journal == entry.journal
            and not self._is_elsewhere(peer)
        )

    def is_able(self, peer: PeerView) -> bool:
        """Whether *peer* is linked and in the run, as a member or as a learner."""
        return peer.linked and not self._is_elsewhere(peer)

    def _is_elsewhere(self, peer: PeerView) -> bool:
        """Whether *peer* reports another run or none, declined this run, or reports nothing.

        Before the first commit a peer may still be about to join. A node sends its Status at once, so a peer
        whose link stays silent does not take part.
        """
        if not self.run:
            return False
        if peer.declined == self.run:
            return True
        if peer.status is None and self.now >= peer.since + self.settings.start_grace:
            return True
        says = peer.status.run if peer.status is not None else self.run
        return not self.policy.takes_part(says, self.run, self.is_begun)

    def count_seated(self, roster: Iterable[RosterEntry]) -> int:
        """Count the members of *roster* that `is_seated` accepts; a plain loop, for speed."""
        peers, me, count = self.peers, self.me, 0
        for entry in roster:
            if entry.node == me.node:
                count += entry.journal == me.journal
            else:
                count += self._is_seated(peers.get(entry.node), entry)
        return count

    def is_gone(self, entry: RosterEntry) -> bool:
        """Whether the member *entry* is absent and not expected back soon."""
        if self.is_reachable(entry.node):
            return not self.is_seated(entry)
        gone_at = self.gone_at(entry.node)
        return gone_at is not None and self.now >= gone_at

    def is_leaving(self, node: str) -> bool:
        """Whether the peer *node* asked to be removed from the roster."""
        peer = self.peers.get(node)
        return peer is not None and peer.linked and peer.is_leaving

    def exclusion(self, node: str) -> str:
        """Return why *node* is kept out; empty if it is not."""
        reason = self.banned.get(node, "") or self.kicked.get(node, ("", 0.0))[0]
        return reason if self.policy.excludes(reason) else ""

    def is_parting(self, node: str) -> bool:
        """Whether the next record is to remove the peer *node*: it is leaving, or kept out."""
        return self.is_leaving(node) or bool(self.exclusion(node))

    def note_undeliverable(self, node: str, reason: str) -> None:
        """Store the *reason* why a blob of *node* could not be pulled here; empty when one could."""
        peer = self.peers.get(node)
        if peer is not None:
            peer.undeliverable = reason

    def name_of(self, node: str) -> str:
        """Return the name of *node* for messages to people."""
        if node == self.me.node:
            return self.name
        return self.names.get(node, node[:7])


def earliest(*times: float | None) -> float | None:
    """Return the smallest of *times*, without those that are None."""
    first = None
    for time in times:
        if time is not None and (first is None or time < first):
            first = time
    return first
