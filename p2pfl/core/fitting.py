"""Which of the waiting devices found a run when the data or tasks of some do not fit those of the others."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

from p2pfl.agreement import merge_cards
from p2pfl.cards import DataCard
from p2pfl.spec import TaskSpec

MAX_COMPARED = 32
"""Maximum number of devices that are compared in pairs, about 500 of them. With more devices no run is
founded before all of them fit."""


def find_fitting(task: TaskSpec, cards: Mapping[str, DataCard]) -> frozenset[str]:
    """Return the names of the devices that can train together although not all *cards* fit; or none.

    A device fits if its card goes together with those of more than half of all devices, itself included.
    Those that fit must be more than half of all devices as well, so that two groups never found two runs.
    """
    if len(cards) > MAX_COMPARED:
        return frozenset()
    partners = dict.fromkeys(cards, 1)
    for one, other in combinations(cards, 2):
        if merge_cards(task, {one: cards[one], other: cards[other]})[0] is not None:
            partners[one] += 1
            partners[other] += 1
    fitting = {name: cards[name] for name, count in partners.items() if 2 * count > len(cards)}
    if 2 * len(fitting) <= len(cards) or merge_cards(task, fitting)[0] is None:
        return frozenset()
    return frozenset(fitting)
