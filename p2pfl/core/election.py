"""Decides when a member runs for election as aggregator.

To run too early costs a refused ballot and never safety; to run too late costs time. Each member ranks all
members for every round by a hash that everybody can compute. The first live member runs at once, each further
member one step later. A member that promised its vote to a live candidate, or heard that one was elected,
does not run while that candidate holds a leader lease. The lease ends with the round cap, with the link to
the candidate, or when the candidate steps down.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec


class Candidate(msgspec.Struct, frozen=True):
    """One reachable member, as all members see it."""

    node: str
    ready: bool
    """Whether its worker can aggregate."""
    links: int
    """How many members it is linked to."""
    able: bool
    """False once it stepped down in this round, and while it is leaving, lacks the parent's blobs, or cannot
    be pulled from. Such a member comes last."""


class ElectionSituation(msgspec.Struct, frozen=True):
    """What one member knows when it decides whether to run for election."""

    me: str
    order: Sequence[str]
    """The roster's node ids by rank for this round."""
    reachable: int
    """Number of members that can take part, this one included."""
    candidates: Callable[[], Sequence[Candidate]]
    """Returns those members; called only when their rank matters."""
    needed: int
    """The quorum of the roster."""
    eligible: bool
    """Whether this node is a member, holds the parent's blobs in an open round, and is not a candidate
    yet."""
    since: float
    """When the round opened or the last lease ended, whichever was later."""
    lease_holder: str
    """The live candidate that holds the lease; empty without one."""
    lease_until: float
    not_before: float
    """End of this node's own back-off."""
    rank_step: float
    now: float


def decide_candidacy(situation: ElectionSituation) -> tuple[bool, str, float | None]:
    """Return whether to run now, why, and when to ask again (None: not before something changes)."""
    if not situation.eligible:
        return False, "not eligible", None
    if situation.reachable < situation.needed:
        return (
            False,
            f"{situation.reachable} of {len(situation.order)} reachable, {situation.needed} needed",
            None,
        )
    if situation.lease_holder and situation.now < situation.lease_until:
        return False, "a live candidate has this vote", situation.lease_until
    place = _place(situation)
    at = max(situation.since + place * situation.rank_step, situation.not_before)
    if situation.now < at:
        return False, f"number {place + 1} in rank", at
    return (
        True,
        "first in rank" if place == 0 else f"number {place + 1} in rank, those before it are silent",
        None,
    )


def _place(situation: ElectionSituation) -> int:
    rank = {node: place for place, node in enumerate(situation.order)}
    ordered = sorted(
        situation.candidates(),
        key=lambda one: (not one.able, not one.ready, -one.links, rank.get(one.node, len(rank))),
    )
    return next(place for place, one in enumerate(ordered) if one.node == situation.me)
