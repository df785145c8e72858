"""When a member stands as aggregator: a decision with its reason, and nothing else.

Standing too early costs a refused ballot, never safety; standing too late costs time. Members rank each other
for every round by a hash all can compute; the first live one stands at once, each next one a step later. Who
has promised its vote to a live candidate, or heard that one was elected, leaves it time until the round's
cap: a courtesy that ends when the link to that one ends or when it yields.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec


class Candidate(msgspec.Struct, frozen=True):
    """One reachable member as the others see it."""

    node: str
    ready: bool
    """Whether its worker can average."""
    links: int
    """How many members it is linked to."""
    able: bool
    """False once it yielded in this round, and while it is leaving, lacks the parent's blobs, or nobody can
    pull from it: it stands last."""


class Situation(msgspec.Struct, frozen=True):
    """What one member knows when it asks itself whether to stand."""

    me: str
    order: Sequence[str]
    """The roster's node ids by rank for this round."""
    reachable: int
    """Members that are here, this one included."""
    candidates: Callable[[], Sequence[Candidate]]
    """Those members; asked for only when it comes to their rank."""
    needed: int
    """The quorum of the roster."""
    eligible: bool
    """Whether this node is a member that holds the parent's blobs in an open round and does not stand
    already."""
    since: float
    """When the round opened or the last courtesy ended, whichever came later."""
    lease_holder: str
    """The live candidate this member promised its vote to or heard was elected; empty when there is none."""
    lease_until: float
    not_before: float
    """The end of this node's own backoff."""
    rank_step: float
    now: float


def decide_candidacy(situation: Situation) -> tuple[bool, str, float | None]:
    """Return whether to stand now, why, and when to ask again (None: not before something changes)."""
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


def _place(situation: Situation) -> int:
    rank = {node: place for place, node in enumerate(situation.order)}
    ordered = sorted(
        situation.candidates(),
        key=lambda one: (not one.able, not one.ready, -one.links, rank.get(one.node, len(rank))),
    )
    return next(place for place, one in enumerate(ordered) if one.node == situation.me)
