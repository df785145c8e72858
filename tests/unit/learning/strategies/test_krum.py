from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from p2pfl.learning.strategies.krum import Krum, MultiKrum, krum_scores, squared_distances
from p2pfl.strategy_specs import KrumSpec, MultiKrumSpec
from tests.support.whole_updates import combined, rows_of

LINE = rows_of([0], [1], [3], [4], [100])
"""Squared distances of neighbours: 0-1 1, 0-2 9, 1-2 4, 1-3 9, 2-3 1. With one attacker, two neighbours count:
scores 1 + 9, 1 + 4, 1 + 4, 1 + 9, and that of the last is 96 ** 2 + 97 ** 2."""


def _by_hand(rows: Tensor, attackers: int) -> list[float]:
    """Return the scores as Blanchard et al. define them, each distance from the elements."""
    values = rows.numpy()
    scores = []
    for number, one in enumerate(values):
        others = [float(((one - other) ** 2).sum()) for place, other in enumerate(values) if place != number]
        scores.append(sum(sorted(others)[: len(values) - attackers - 2]))
    return scores


def test_a_score_is_the_sum_over_the_nearest_neighbours() -> None:
    assert krum_scores(squared_distances(LINE @ LINE.t()), 1).tolist() == [10, 5, 5, 10, 96**2 + 97**2]


def test_krum_is_the_update_with_the_lowest_score_and_of_equal_ones_the_one_closest_to_all() -> None:
    found, state = combined(Krum(KrumSpec(attackers=1)), LINE)
    assert (found.tolist(), state) == ([3.0], None)


def test_multi_krum_is_the_mean_of_all_but_the_attackers() -> None:
    assert combined(MultiKrum(MultiKrumSpec(attackers=1)), LINE)[0].tolist() == [2.0]


@pytest.mark.parametrize(("keep", "expected"), [(1, 3.0), (2, 2.0), (4, 2.0), (5, 2.0), (200, 2.0)])
def test_multi_krum_keeps_as_many_as_wished_but_never_the_attackers(keep: int, expected: float) -> None:
    strategy = MultiKrum(MultiKrumSpec(attackers=1, keep=keep))
    assert combined(strategy, LINE)[0].tolist() == [expected]


@pytest.mark.parametrize(("count", "attackers"), [(4, 0), (5, 1), (10, 1), (10, 3), (13, 5)])
def test_both_are_what_the_definition_gives(count: int, attackers: int) -> None:
    generator = torch.Generator().manual_seed(count)
    rows = torch.randn(count, 40, generator=generator, dtype=torch.float64)
    parent = torch.randn(40, generator=generator, dtype=torch.float64)
    scores = _by_hand(rows, attackers)
    products = (rows - parent) @ (rows - parent).t()
    assert np.allclose(krum_scores(squared_distances(products), attackers), scores, rtol=1e-12)
    order = np.argsort(scores, kind="stable")
    found, _ = combined(Krum(KrumSpec(attackers)), rows, parent)
    assert torch.equal(found, rows[order[0]])
    several, _ = combined(MultiKrum(MultiKrumSpec(attackers)), rows, parent)
    assert torch.allclose(several, rows[order[: count - attackers].copy()].mean(dim=0), rtol=1e-12)


def test_an_update_whose_products_are_no_numbers_is_never_chosen() -> None:
    rows = rows_of([0], [1], [2], [3], [1e200])
    products = rows @ rows.t()
    assert products[4, 4].isinf()
    products[0, 4] = products[4, 0] = torch.nan
    scores = krum_scores(squared_distances(products), 1)
    assert scores[4].isinf()
    assert scores[:4].isfinite().all()


def test_rounding_makes_no_distance_negative() -> None:
    products = torch.tensor([[1.0, 1.0 + 1e-9], [1.0 + 1e-9, 1.0]], dtype=torch.float64)
    assert squared_distances(products).tolist() == [[0, 0], [0, 0]]
