"""Finds out who cannot reach whom: each node that was reached has told whom it is linked to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

from p2pfl.doctor.finding import Finding
from p2pfl.doctor.subject import Reached
from p2pfl.text import one_line

MAX_PAIRS = 20
"""Pairs that are named."""


def check_links(reached: Sequence[Reached], own: str = "") -> Iterator[Finding]:
    """Report pairs of reached nodes without a link, and nodes that others are linked to.

    *own* is the node id of this device.
    """
    told = {one.identity.node_id: one for one in reached if one.links is not None}
    if not told:
        return
    linked = {frozenset((node, other.node)) for node, one in told.items() for other in one.links or ()}
    missing = [pair for pair in combinations(told, 2) if frozenset(pair) not in linked]
    for first, second in missing[:MAX_PAIRS]:
        one, other = told[first], told[second]
        yield Finding(
            "warn",
            f"{_name(one)} and {_name(other)} both run, and have no link to each other: neither can dial "
            "the other",
            "a model still reaches both through a third node; run `p2pfl doctor` on each of them, with the "
            "address of the other",
            (
                f"# on {_name(one)}:",
                f"p2pfl doctor --peers {other.address}",
                f"# on {_name(other)}:",
                f"p2pfl doctor --peers {one.address}",
            ),
        )
    if len(missing) > MAX_PAIRS:
        yield Finding("warn", f"so it is with {len(missing) - MAX_PAIRS} more pairs")
    if len(told) > 1 and not missing:
        yield Finding("ok", f"the {len(told)} nodes that were reached are all linked to each other")
    names = {other.node: one_line(other.name, 64) for one in told.values() for other in one.links or ()}
    others = sorted(name for node, name in names.items() if node not in told and node != own)
    if others:
        yield Finding("ok", f"other nodes that are linked to those: {', '.join(others)}")


def _name(one: Reached) -> str:
    return one_line(one.identity.name, 64)
