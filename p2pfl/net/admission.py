"""Whether a connection may become a link, and which of several connections of a pair does.

Decides only: it opens and sends nothing. `p2pfl.wire.links` describes the exchange it serves.

Three questions are answered here. Is the other side fit (its role, its protocol versions)? Is it who it was:
a journal that shows fewer starts or fewer votes than it has shown before, or the same start with another
nonce, is a copy or was restored from a backup; its promises are no longer the promises that were made. What
it has shown before was signed by itself, and is sent back to it: so a node stops for its own signature only,
never for another's word. And is the connection needed: the judge of a pair, the node with the lower id, lets
one connection stand at a time and numbers those it lets stand.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from p2pfl.config import PROTOCOL_VERSIONS
from p2pfl.identity.keys import short
from p2pfl.identity.peer import PeerIdentity
from p2pfl.messages import Member
from p2pfl.net.peers import IncarnationMemory, Local
from p2pfl.proofs import Claim, JournalEvidence
from p2pfl.wire.links import Hello, Introduction, Refusal


@dataclass(frozen=True)
class Held:
    """The connection that is, or is about to be, the link to a node."""

    journal: str
    incarnation: int
    nonce: str
    order: int


class Admission:
    """The judgement of one node over its connections."""

    def __init__(
        self,
        node: str,
        local: Local,
        incarnations: IncarnationMemory,
        max_links: int,
        objection: Callable[[str], str] = lambda _: "",
    ) -> None:
        """Judge for *node*; *objection* says why another one is turned away now, empty where it is not."""
        self._node = node
        self._local = local
        self._incarnations = incarnations
        self._max_links = max_links
        self._objection = objection
        self._held: dict[str, Held] = {}
        self._seen: dict[str, tuple[str, int]] = {}
        self._last_order = 0

    def is_judge(self, node: str) -> bool:
        """Whether this node numbers the connections with *node*."""
        return self._node < node

    def holds(self, node: str) -> bool:
        """Whether a connection with *node* stands."""
        return node in self._held

    def seen(self, node: str) -> tuple[str, int]:
        """Return the nonce and the highest order seen from *node* as judge; ("", 0) before the first."""
        return self._seen.get(node, ("", 0))

    def version_with(self, hello: Hello) -> int | None:
        """Return the highest protocol version both sides speak, None if there is none."""
        lowest, highest = PROTOCOL_VERSIONS
        version = min(highest, hello.highest)
        return version if version >= max(lowest, hello.lowest) else None

    def refuse_hello(self, peer: PeerIdentity, hello: Hello) -> Refusal | None:
        """Return why the dialer *peer* is not let in, None if it is."""
        if self.version_with(hello) is None:
            lowest, highest = PROTOCOL_VERSIONS
            return Refusal(
                "version",
                f"the dialer (p2pfl {hello.software}) speaks protocol versions {hello.lowest} to "
                f"{hello.highest}, the listener (p2pfl {self._local.version}) {lowest} to {highest}: "
                "update the older one",
            )
        return self.refuse(peer, hello) or self._refuse_duplicate(peer.node_id, hello)

    def refuse(self, peer: PeerIdentity, words: Introduction) -> Refusal | None:
        """Return why *peer*, dialer or listener, cannot be linked with whatever connection."""
        if refusal := refuse_role(peer):
            return refusal
        if peer.node_id == self._node:
            return self._refuse_own_key(words)
        if objection := self._objection(peer.node_id):
            return Refusal("protocol", f"{peer.name} gets no link: {objection}")
        if not words.claim.is_valid(peer.node_id, self._local.signer.verify):
            reason = f"what {peer.name} says of its journal is not signed with the key of its certificate"
            return Refusal("protocol", reason)
        member = Member(peer.node_id, words.journal)
        known = self._incarnations.seen(member)
        if known is not None and (refusal := _refuse_copy(peer.name, words.claim, known)):
            return refusal
        held = self._held.get(peer.node_id)
        if held is not None and held.journal != words.journal:
            return Refusal(
                "twin",
                f"another node with the certificate of {peer.name} ({short(peer.node_id)}) but another data "
                "directory is linked: every device needs a certificate of its own",
            )
        if held is None and len(self._held) >= self._max_links:
            return Refusal("full", f"there are {self._max_links} links already, the most a node has")
        if known is None or known.claim is None or not _is_as_new(known, words.claim):
            self._incarnations.save_claim(member, words.claim)
        return None

    def is_disowned_by(self, refusal: Refusal) -> bool:
        """Whether *refusal* proves that this node's journal is a copy, by what its own key has signed."""
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

    def take_judged(self, node: str, words: Introduction, order: int) -> bool:
        """Let the connection that the judge *node* numbered *order* stand, unless a later one was seen."""
        nonce, highest = self.seen(node)
        if nonce == words.nonce and order <= highest:
            return False
        self._seen[node] = (words.nonce, order)
        self._held[node] = Held(words.journal, words.incarnation, words.nonce, order)
        return True

    def take(self, node: str, words: Introduction) -> int:
        """Let this connection with *node* stand, in place of any before; return its order.

        Only the judge of the pair calls this.
        """
        self._last_order += 1
        self._held[node] = Held(words.journal, words.incarnation, words.nonce, self._last_order)
        return self._last_order

    def stands(self, node: str, order: int) -> bool:
        """Whether the connection of this *order* is (still) the one that stands with *node*."""
        held = self._held.get(node)
        return held is not None and held.order == order

    def release(self, node: str, order: int) -> None:
        """Forget the connection with *node* of this *order*: it ended."""
        if self.stands(node, order):
            del self._held[node]

    def _refuse_own_key(self, words: Introduction) -> Refusal:
        if words.nonce == self._local.nonce:
            return Refusal("self", "this is the node's own address")
        return Refusal(
            "twin",
            "two running nodes use the same certificate: every device needs one of its own, "
            "from `p2pfl certs issue NAME`",
        )

    def _refuse_duplicate(self, node: str, hello: Hello) -> Refusal | None:
        """Refuse a dialer whose link stands, unless it says that it has lost it."""
        held = self._held.get(node)
        if held is None or held.nonce != hello.nonce or not self.is_judge(node):
            return None
        has_seen = hello.seen if hello.seen_nonce == self._local.nonce else 0
        if has_seen >= held.order:
            return None
        return Refusal("duplicate", "the two nodes are linked already")


def refuse_role(peer: PeerIdentity) -> Refusal | None:
    """Return why the certificate of *peer* admits to no link, None if it does: before anything it says."""
    if peer.role == "node":
        return None
    return Refusal(
        "role", f"the certificate of {peer.name} has the role {peer.role}; only nodes train together"
    )


def _refuse_copy(name: str, claim: Claim, known: JournalEvidence) -> Refusal | None:
    """Return why *claim* of the node *name* is that of a copy, given what is *known* of the same journal."""
    last = known.claim
    if last is not None and (
        claim.incarnation < last.incarnation
        or (claim.incarnation == last.incarnation and claim.nonce != last.nonce)
    ):
        which = "another" if claim.incarnation == last.incarnation else "a later"
        what = f"it says start {claim.incarnation}, and {which} start {last.incarnation} was seen"
    elif claim.votes < known.votes:
        what = f"it says that it has cast {claim.votes} votes, and {known.votes} were seen"
    else:
        return None
    reason = (
        f"the data directory of {name} is a copy or was restored from a backup: {what}. "
        "Start that node with --new-journal"
    )
    return Refusal("cloned", reason, last, known.cast)


def _is_as_new(known: JournalEvidence, claim: Claim) -> bool:
    """Whether *claim* says no more than what is *known*."""
    last = known.claim
    return last is not None and last.nonce == claim.nonce and known.votes >= claim.votes
