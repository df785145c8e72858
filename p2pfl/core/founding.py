"""Decides whether a node founds a run now, and which of two runs without a common past a node prefers.

Founding needs no vote (rule "Founding a run"). The founder is the node with the lowest id among the nodes
that are linked to enough others and whose options may hold (`p2pfl.core.given_options`). Two partitions may
found two runs; when they meet and at most one of the runs has a commit, the nodes of one run move to the
other (rule "Runs that meet", `prefers`).
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from p2pfl.core.given_options import Holding

READY_PATIENCE = 10
"""Multiple of `steady` for which the others wait for a present node whose worker is still loading; after
that, they found a run without it."""


class FoundingSituation(msgspec.Struct, frozen=True):
    """The input of `decide_founding`."""

    me: str
    here: frozenset[str]
    """Node ids of the ready nodes: this node and linked nodes in no run."""
    loading: int
    """Number of nodes whose worker is still loading, among this node and the linked nodes in no run."""
    needed: int
    """The largest `min_nodes` among the nodes in no run; at least what the strategy needs."""
    holder: str
    """Name of a node whose operator holds the start; empty when nobody does."""
    elsewhere: tuple[str, ...]
    """Names of linked nodes that are in a run which this node does not enter."""
    unfit: str
    """Why this node cannot take part in the run of one of them; empty if it could."""
    steady_since: float
    """When the set of linked nodes in no run last changed."""
    steady: float
    """See `ProtocolSettings.steady`."""
    now: float
    cut_off: frozenset[str] = frozenset()
    """Nodes of `here` that see fewer than `needed` nodes, for example because of a firewall: they never
    found."""
    unable: Mapping[str, str] = {}
    """By node whose last founding failed: the reason. Other nodes try first."""
    next_try: float | None = None
    """When the first node of `unable` may found again."""
    apart: str = ""
    """Why the data of the nodes in `here` allow no agreement; empty if they allow one."""
    holding: Holding = Holding(None)
    """Whose options hold among the nodes in `here` and those that are loading."""
    is_complete: bool = False
    """Whether each node in `here` is linked with all the devices that it waits for."""


def decide_founding(present: FoundingSituation) -> tuple[bool, str, float | None]:
    """Return whether this node founds now, why or why not, and when to ask again."""
    if present.elsewhere and present.unfit:
        return False, present.unfit, None
    if present.elsewhere:
        return (
            False,
            f"{', '.join(present.elsewhere)} still in another run: start it with --new-run as well",
            None,
        )
    reason = _what_is_missing(present)
    if reason:
        return False, reason[:300], None
    patience = present.steady * (READY_PATIENCE if present.loading else 1)
    at = present.steady_since + (0.0 if present.is_complete and not present.loading else patience)
    if len(present.here) < present.needed or present.now < at:
        what = "workers are loading" if present.loading else "everybody is here, the run starts in a moment"
        return False, what, at if present.now < at else None
    return _decide_founder(present)


def _what_is_missing(present: FoundingSituation) -> str:
    """Return what time alone does not change: missing nodes, a held start, differences; empty if nothing."""
    known, difference = len(present.here) + present.loading, present.holding.difference
    if known < present.needed:
        return "; ".join(filter(None, (f"{known} of {present.needed} nodes are here", difference)))
    if present.holder:
        return held_start(present.holder)
    return difference or present.apart


def held_start(holder: str) -> str:
    """Return why nothing begins while the operator of the device *holder* holds the start."""
    return f"the training begins when somebody presses Enter on {holder}, or runs `p2pfl start` there"


def _decide_founder(present: FoundingSituation) -> tuple[bool, str, float | None]:
    """Return whether this node is the founder among those that are here, why, and when to ask again."""
    allowed = present.holding.founders
    fit = present.here if allowed is None else present.here & allowed
    if not fit:
        return False, f"{present.holding.of}, whose options hold, is not ready", present.next_try
    able = fit - present.unable.keys()
    if not able:
        why = present.unable[min(fit)]
        return False, f"no device could found a run; the next try is soon: {why}"[:300], present.next_try
    if min((able - present.cut_off) | (able & {present.me}) or able) != present.me:
        return False, "the node with the lowest id founds the run", present.next_try
    return True, "this node has the lowest id", None


def prefers(mine: str, theirs: str, their_round: int) -> bool:
    """Whether a node at round 0 of run *mine* moves to *theirs*: it has commits, or the smaller run id."""
    return their_round > 0 or theirs < mine
