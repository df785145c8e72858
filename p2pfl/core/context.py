"""What the parts of one node share: who it is, who it can see, the time of the input, the effects so far."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from p2pfl.config import ProtocolSettings
from p2pfl.core.effects import AnyEffect, Send, Sever, Tell
from p2pfl.core.options import Options, Policy
from p2pfl.events import AnyEvent, Notice
from p2pfl.messages import Ballot, DeviceInfo, Member, Message, RosterEntry, SignedVote, Status
from p2pfl.proofs import CastVote, Signer, sign_vote
from p2pfl.spec import DataCard

COMPLAINT_SECONDS = 60.0
"""Before the same complaint about the same node is told again."""

MAX_COMPLAINTS = 1024
"""Complaints remembered: nobody can grow this."""


@dataclass
class PeerView:
    """What is known of one peer. Kept when its link ends; a roster decides how long it matters."""

    member: Member
    name: str
    linked: bool = False
    ever_linked: bool = False
    """Whether there was a link since this node's start."""
    since: float = 0.0
    """When the link came up or went down."""
    status: Status | None = None
    """Its last word about itself; None on a new link until it has spoken."""
    moved_at: float = 0.0
    """When its training last moved on, as far as it said."""
    card: DataCard | None = None
    """What it said of its data on this link."""
    device_info: DeviceInfo | None = None
    """What it said of its device on this link."""
    run_since: float = 0.0
    """Since when it says that it is in the run it is in, or in none."""
    last_run: str = ""
    """The last run it said it was in."""
    lacking_since: float | None = None
    """Since when it lacks the last model it knows of, as far as it said; None while it has it."""
    declined: str = ""
    """The run it said it cannot take part in, unless it has said since that it is in it."""
    declined_because: str = ""
    undeliverable: str = ""
    """Why the last blob only it had could not be pulled by this node; empty when it could."""

    @property
    def is_leaving(self) -> bool:
        """Whether it asked to be dropped."""
        return self.status is not None and self.status.phase == "leaving"

    def hear(self, status: Status, now: float) -> None:
        """Take note of what it says of itself."""
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
    """Shared by the parts of a node; the only mutable thing they have in common."""

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
    """Node ids to names, from links and rosters."""
    run: str = ""
    """The run this node is in; empty while it is in none."""
    card: DataCard | None = None
    """What this node says of its own data; None until its worker has described them."""
    is_begun: bool = False
    """Whether that run has a commit: its members say that they are in it, or cannot do their part."""
    unserved: dict[str, str] = field(default_factory=dict)
    """By node: why it could not pull this node's last model, as it said."""
    votes: int = 0
    """How many votes this journal has cast, those included whose save is among the effects."""
    seen: dict[Member, CastVote] = field(default_factory=dict)
    """The newest vote of each other member that was seen since this node's start."""
    _complained: dict[tuple[str, str], float] = field(default_factory=dict)

    def do(self, effect: AnyEffect) -> None:
        """Append *effect* to those of this input."""
        self.effects.append(effect)

    def send(self, to: str, message: Message) -> None:
        """Send *message* to node *to* if it is linked."""
        if self.is_linked(to):
            self.effects.append(Send(to, message))

    def broadcast(self, message: Message) -> None:
        """Send *message* to everybody linked."""
        for node, peer in self.peers.items():
            if peer.linked:
                self.effects.append(Send(node, message))

    def tell(self, event: AnyEvent) -> None:
        """Publish *event*."""
        self.effects.append(Tell(event))

    def warn(self, text: str) -> None:
        """Publish a sentence that deserves attention."""
        self.effects.append(Tell(Notice("warning", text)))

    def complain(self, node: str, kind: str, text: str) -> None:
        """Publish a sentence about what *node* did, once a minute for each *kind* of it."""
        key = (node, kind)
        told = self._complained.get(key)
        if told is not None and self.now < told + COMPLAINT_SECONDS:
            return
        if len(self._complained) >= MAX_COMPLAINTS:
            self._complained.clear()
        self._complained[key] = self.now
        self.warn(text)

    def sign(self, run: str, round_: int, ballot: Ballot, record: str = "") -> SignedVote:
        """Return this node's vote for *record* in *ballot*, or, without one, its promise of *ballot*."""
        return sign_vote(self.signer, self.me, run, round_, ballot, record, self.votes)

    def learn_vote(self, cast: CastVote) -> None:
        """Take note of another member's vote, which is checked."""
        vote = cast.vote
        newest = self.seen.get(vote.member)
        if vote.member != self.me and (newest is None or newest.vote.votes < vote.votes):
            self.seen[vote.member] = cast

    def takes_vote(self, cast: CastVote) -> bool:
        """Take note of a vote a member sent here, which is checked; return whether it may count.

        A journal that shows fewer votes than it has shown before has forgotten some: its link ends, and the
        handshake of the next one tells it why.
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
        """Return since when *node* has no link, at most since this node's start; None while it has one."""
        if self.is_reachable(node):
            return None
        peer = self.peers.get(node)
        return peer.since if peer is not None and peer.ever_linked else self.started

    def absent_since(self, entry: RosterEntry) -> float | None:
        """Return since when the member *entry* cannot do its part; None while it can.

        It has no link, or it has one and another journal, is in another run, or lacks the last model.
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
        """Return when *node* counts as gone from the round (rule 9); None while it is here."""
        peer = self.peers.get(node)
        if self.is_reachable(node):
            return (
                peer.since + self.settings.start_grace if peer is not None and peer.status is None else None
            )
        if peer is not None and peer.ever_linked:
            return peer.since + self.settings.gone
        return self.started + self.settings.start_grace

    def is_seated(self, entry: RosterEntry) -> bool:
        """Whether the member *entry* is here and in the run.

        A node that is linked with another journal is not it, and one that is in another run does not vote.
        """
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
        """Whether *peer* is linked and in the run, as a member of it or about to be one."""
        return peer.linked and not self._is_elsewhere(peer)

    def _is_elsewhere(self, peer: PeerView) -> bool:
        """Whether *peer* says that it is in another run than this node, or in none, or cannot be in this one.

        Before the first commit it may still be on its way into the run. A link on which nothing is said soon,
        although a node says at once which run it is in, is nobody's part.
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
        """Count the members of *roster* that are here; written out, since every input asks."""
        peers, me, count = self.peers, self.me, 0
        for entry in roster:
            if entry.node == me.node:
                count += entry.journal == me.journal
            else:
                count += self._is_seated(peers.get(entry.node), entry)
        return count

    def is_gone(self, entry: RosterEntry) -> bool:
        """Whether nothing is to be expected of the member *entry* for now."""
        if self.is_reachable(entry.node):
            return not self.is_seated(entry)
        gone_at = self.gone_at(entry.node)
        return gone_at is not None and self.now >= gone_at

    def is_leaving(self, node: str) -> bool:
        """Whether the peer *node* asked to be dropped."""
        peer = self.peers.get(node)
        return peer is not None and peer.linked and peer.is_leaving

    def note_undeliverable(self, node: str, reason: str) -> None:
        """Take note that a blob of *node* could not be pulled here; empty when one could."""
        peer = self.peers.get(node)
        if peer is not None:
            peer.undeliverable = reason

    def name_of(self, node: str) -> str:
        """Return a name for people."""
        if node == self.me.node:
            return self.name
        return self.names.get(node, node[:7])


def earliest(*times: float | None) -> float | None:
    """Return the smallest of the *times* that are given."""
    first = None
    for time in times:
        if time is not None and (first is None or time < first):
            first = time
    return first
