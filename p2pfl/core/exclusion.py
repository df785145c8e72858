"""Keeps members out: those that are banned, and those that were kicked (rule "Keeping members out").

The core is told who is kept out, and takes no part in how that is known. It removes such members from the
roster by a record, as it removes leavers. Until then they are in the quorum of the open round. So the link to
one of them is closed at once only if the others can decide the round without it; otherwise it votes until a
record has removed it, and does nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from p2pfl.core.context import Context
from p2pfl.core.effects import Dismiss
from p2pfl.core.ledger import Ledger
from p2pfl.messages import RosterEntry


def decide_sparing(
    roster: Sequence[RosterEntry], excluded: frozenset[str], *, seated: int, needed: int
) -> tuple[frozenset[str], str]:
    """Return the members whose links stay, because a record is needed that removes them, and why.

    *excluded* are the nodes that are kept out. *seated* counts the other members that are here, *needed* is
    the quorum of *roster*.
    """
    theirs = frozenset(entry.node for entry in roster if entry.node in excluded)
    if not theirs:
        return theirs, "none of them is a member"
    if seated >= needed:
        return frozenset(), f"{seated} others are here, {needed} are needed"
    return theirs, f"only {seated} others are here, {needed} are needed: their votes decide until then"


@dataclass
class Exclusion:
    """Closes the links of nodes that are kept out, and forgets kicks that a record has fulfilled."""

    ctx: Context
    spared: frozenset[str] = frozenset()
    """Members that are kept out and still needed for the quorum: their links stay."""
    _dismissed: dict[str, float] = field(default_factory=dict)
    """By node: when the link that was closed last came up."""

    def consider(self, ledger: Ledger | None) -> None:
        """Close the links that are due, after a change of anything."""
        ctx = self.ctx
        if not (ctx.banned or ctx.kicked):
            self.spared = frozenset()
            return
        self.spared = self._spare(ledger)
        for node, reason in ctx.banned.items():
            self._dismiss(node, reason, before=ctx.now)
        for node, (reason, at) in list(ctx.kicked.items()):
            self._dismiss(node, reason, before=at)
            if ledger is None or all(entry.node != node for entry in ledger.roster):
                del ctx.kicked[node]  # a link that comes now is that of a newcomer

    def _spare(self, ledger: Ledger | None) -> frozenset[str]:
        ctx = self.ctx
        if ledger is None or ledger.is_over or not ledger.is_member:
            return frozenset()
        excluded = frozenset(entry.node for entry in ledger.roster if ctx.exclusion(entry.node))
        seated = ctx.count_seated(entry for entry in ledger.roster if entry.node not in excluded)
        return decide_sparing(ledger.roster, excluded, seated=seated, needed=ledger.needed)[0]

    def _dismiss(self, node: str, reason: str, before: float) -> None:
        """Close the link to *node*, once, if it came up at the time *before* or earlier."""
        peer = self.ctx.peers.get(node)
        if peer is None or not peer.linked or peer.since > before or node in self.spared:
            return
        if self._dismissed.get(node) != peer.since:
            self._dismissed[node] = peer.since
            self.ctx.do(Dismiss(node, f"{peer.name} {reason}"[:300]))

    def ignores(self, node: str) -> bool:
        """Whether nothing that *node* says counts any more."""
        return node in self.ctx.banned and bool(self.ctx.exclusion(node)) and node not in self.spared
