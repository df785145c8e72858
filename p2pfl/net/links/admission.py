"""Decides whether a connection may become a link, and which of several connections of a pair is the link.

It opens and sends nothing. `p2pfl.wire.links` describes the handshake that it serves.

It checks four things:

- Role and protocol versions of the peer.
- Whether an operator or the CA keeps it out of the federation (`MembershipPolicy`).
- The peer's journal. A journal with fewer incarnations or fewer votes than seen before, or with the same
  incarnation and another nonce, is a copy or was restored from a backup, so it may break earlier promises.
  The refusal contains what was seen before, signed by the journal's own node: a node stops only for its own
  signature, never because a peer says so.
- Duplicates. The *judge* of a pair, the node with the lower id, keeps one connection at a time and numbers
  the connections it accepts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from p2pfl.config import PROTOCOL_VERSIONS
from p2pfl.identity.keys import short
from p2pfl.identity.peer import PeerIdentity
from p2pfl.messages import Member
from p2pfl.net.links.peers import IncarnationMemory, LocalNode, MembershipPolicy
from p2pfl.proofs import Claim, JournalEvidence
from p2pfl.wire.links import Hello, Introduction, Refusal

EVERYBODY = MembershipPolicy()
"""Keeps nobody out."""


@dataclass(frozen=True)
class CurrentConnection:
    """The connection that is, or is about to become, the link to a node."""

    journal: str
    nonce: str
    order: int


class Admission:
    """Admission control of one node."""

    def __init__(
        self,
        node: str,
        local: LocalNode,
        incarnations: IncarnationMemory,
        max_links: int,
        ban_reason: Callable[[str], str] = lambda _: "",
        membership: MembershipPolicy = EVERYBODY,
    ) -> None:
        """Decide for *node*; *membership* says who is kept out of the federation.

        *ban_reason* returns why a peer that sent too much gets no link for a while; empty if it gets one.
        """
        self._node = node
        self._local = local
        self._incarnations = incarnations
        self._max_links = max_links
        self._ban_reason = ban_reason
        self.membership = membership
        self._current: dict[str, CurrentConnection] = {}
        self._seen: dict[str, tuple[str, int]] = {}
        self._last_order = 0

    def is_judge(self, node: str) -> bool:
        """Whether this node is the judge, which numbers the connections with *node*."""
        return self._node < node

    def has_connection(self, node: str) -> bool:
        """Whether there is a current connection with *node*."""
        return node in self._current

    def seen(self, node: str) -> tuple[str, int]:
        """Return nonce and highest number seen from *node* as judge; ("", 0) before the first."""
        return self._seen.get(node, ("", 0))

    def version_with(self, hello: Hello) -> int | None:
        """Return the highest protocol version that both sides support, None if there is none."""
        lowest, highest = PROTOCOL_VERSIONS
        version = min(highest, hello.highest)
        return version if version >= max(lowest, hello.lowest) else None

    def refuse_hello(self, peer: PeerIdentity, hello: Hello) -> Refusal | None:
        """Return why the dialer *peer* is refused, None if it is not."""
        if self.version_with(hello) is None:
            lowest, highest = PROTOCOL_VERSIONS
            return Refusal(
                "version",
                f"the dialer (p2pfl {hello.software}) speaks protocol versions {hello.lowest} to "
                f"{hello.highest}, the listener (p2pfl {self._local.version}) {lowest} to {highest}: "
                "update the older one",
            )
        return self.refuse(peer, hello) or self._refuse_duplicate(peer.node_id, hello)

    def refuse(self, peer: PeerIdentity, introduction: Introduction) -> Refusal | None:
        """Return why *peer*, dialer or listener, may not be linked on any connection, None if it may."""
        if refusal := refuse_role(peer):
            return refusal
        if peer.node_id == self._node:
            return self._refuse_own_key(introduction)
        if refusal := self.membership.refusal(peer, introduction.incarnation):
            return refusal
        if ban_reason := self._ban_reason(peer.node_id):
            return Refusal("protocol", f"{peer.name} gets no link: {ban_reason}")
        if not introduction.claim.is_valid(peer.node_id, self._local.signer.verify):
            reason = (
                f"what {peer.name} claims about its journal is not signed with the key of its certificate"
            )
            return Refusal("protocol", reason)
        member = Member(peer.node_id, introduction.journal)
        known = self._incarnations.seen(member)
        if known is not None and (refusal := _refuse_copy(peer.name, introduction.claim, known)):
            return refusal
        current = self._current.get(peer.node_id)
        if current is not None and current.journal != introduction.journal:
            return Refusal(
                "twin",
                f"another node with the certificate of {peer.name} ({short(peer.node_id)}) but another data "
                "directory is linked: every device needs a certificate of its own",
            )
        if current is None and len(self._current) >= self._max_links:
            return Refusal("full", f"there are {self._max_links} links already, the most a node has")
        if known is None or known.claim is None or not _adds_nothing(known, introduction.claim):
            self._incarnations.save_claim(member, introduction.claim)
        return None

    def proves_clone(self, refusal: Refusal) -> bool:
        """Whether *refusal* proves that this node's journal is a copy: only its own signature proves it."""
        local, verify = self._local, self._local.signer.verify
        claim, cast = refusal.claim, refusal.cast
        if claim is not None and claim.journal == local.journal:
            is_later = (
                claim.incarnation > local.incarnation
                or (claim.incarnation == local.incarnation and claim.nonce != local.nonce)
                or claim.votes > local.votes()
            )
            if is_later and claim.is_valid(self._node, verify):
                return True
        if cast is None or cast.vote.member != Member(self._node, local.journal):
            return False
        return cast.vote.votes > local.votes() and cast.is_valid(verify)

    def accept_numbered(self, node: str, introduction: Introduction, order: int) -> bool:
        """Make the connection that the judge *node* numbered *order* current, unless a later one was seen."""
        nonce, highest = self.seen(node)
        if nonce == introduction.nonce and order <= highest:
            return False
        self._seen[node] = (introduction.nonce, order)
        self._current[node] = CurrentConnection(introduction.journal, introduction.nonce, order)
        return True

    def accept(self, node: str, introduction: Introduction) -> int:
        """Make this connection with *node* the current one, replacing any other; return its number.

        Only the judge of the pair calls this.
        """
        self._last_order += 1
        self._current[node] = CurrentConnection(introduction.journal, introduction.nonce, self._last_order)
        return self._last_order

    def is_current(self, node: str, order: int) -> bool:
        """Whether the connection numbered *order* is the current one with *node*."""
        current = self._current.get(node)
        return current is not None and current.order == order

    def release(self, node: str, order: int) -> None:
        """Forget the connection with *node* numbered *order*: it has ended."""
        if self.is_current(node, order):
            del self._current[node]

    def _refuse_own_key(self, introduction: Introduction) -> Refusal:
        if introduction.nonce == self._local.nonce:
            return Refusal("self", "this is the node's own address")
        return Refusal(
            "twin",
            "two running nodes use the same certificate: every device needs one of its own, "
            "from `p2pfl certs issue NAME`",
        )

    def _refuse_duplicate(self, node: str, hello: Hello) -> Refusal | None:
        """Refuse a dialer that is linked already, unless it says that it has lost that link."""
        current = self._current.get(node)
        if current is None or current.nonce != hello.nonce or not self.is_judge(node):
            return None
        has_seen = hello.seen if hello.seen_nonce == self._local.nonce else 0
        if has_seen >= current.order:
            return None
        return Refusal("duplicate", "the two nodes are linked already")


def refuse_role(peer: PeerIdentity) -> Refusal | None:
    """Return why the certificate of *peer* permits no link, None if it does. Check it before any frame."""
    if peer.role == "node":
        return None
    return Refusal(
        "role", f"the certificate of {peer.name} has the role {peer.role}; only nodes train together"
    )


def may_be_late(refusal: Refusal, claim: Claim) -> bool:
    """Whether a vote that was cast just after *claim* was signed explains *refusal*.

    The vote may arrive by another node before the claim does. The next claim contains it.
    """
    last = refusal.claim
    return refusal.kind == "cloned" and (last is None or not _is_earlier_start(claim, last))


def _is_earlier_start(claim: Claim, last: Claim) -> bool:
    """Whether *claim* is of an earlier start than *last*, or of another start with the same number."""
    return claim.incarnation < last.incarnation or (
        claim.incarnation == last.incarnation and claim.nonce != last.nonce
    )


def _refuse_copy(name: str, claim: Claim, known: JournalEvidence) -> Refusal | None:
    """Return why *claim* is that of a copied journal, given what is *known* of it; None if it is not."""
    last = known.claim
    if last is not None and _is_earlier_start(claim, last):
        which = "another" if claim.incarnation == last.incarnation else "a later"
        what = f"it claims start {claim.incarnation}, and {which} start {last.incarnation} was seen"
    elif claim.votes < known.votes:
        what = f"it claims {claim.votes} cast votes, and {known.votes} were seen"
    else:
        return None
    reason = (
        f"the data directory of {name} is a copy or was restored from a backup: {what}. "
        "Start that node with --new-journal"
    )
    return Refusal("cloned", reason, last, known.cast)


def _adds_nothing(known: JournalEvidence, claim: Claim) -> bool:
    """Whether *claim* adds nothing to what is *known*."""
    last = known.claim
    return last is not None and last.nonce == claim.nonce and known.votes >= claim.votes
