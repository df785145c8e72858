"""Who founds a run when not all fit: more than half, alike from every device's place."""

from __future__ import annotations

import msgspec
import pytest

from p2pfl.core.fitting import MAX_COMPARED, find_fitting
from tests.support.records import CARD, SPEC

OTHER = msgspec.structs.replace(CARD, labels=CARD.labels[:2])
THIRD = msgspec.structs.replace(CARD, labels=CARD.labels[:3])


@pytest.mark.parametrize(
    ("cards", "fitting"),
    [
        ({"ada": CARD, "ben": CARD, "cleo": OTHER}, "ada ben"),
        ({"ada": OTHER, "ben": CARD, "cleo": CARD}, "ben cleo"),
        ({"ada": CARD, "ben": CARD, "cleo": CARD, "dan": OTHER, "eve": THIRD}, "ada ben cleo"),
        ({"ada": CARD, "ben": OTHER}, ""),
        ({"ada": CARD, "ben": CARD, "cleo": OTHER, "dan": OTHER}, ""),
        ({"ada": CARD, "ben": OTHER, "cleo": THIRD}, ""),
    ],
)
def test_those_fit_who_go_together_with_more_than_half(
    cards: dict[str, msgspec.Struct], fitting: str
) -> None:
    assert find_fitting(SPEC.task, cards) == frozenset(fitting.split())  # type: ignore[arg-type]


def test_too_many_devices_are_not_compared() -> None:
    cards = {f"n{index}": CARD for index in range(MAX_COMPARED)}
    assert find_fitting(SPEC.task, {**cards, "odd": OTHER}) == frozenset()
    del cards["n0"]
    assert find_fitting(SPEC.task, {**cards, "odd": OTHER}) == frozenset(cards)
