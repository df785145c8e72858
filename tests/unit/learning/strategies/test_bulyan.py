from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from p2pfl.learning.strategies.bulyan import Bulyan
from p2pfl.strategy_specs import BulyanSpec
from tests.support.whole_updates import combined, rows_of


def _by_hand(rows: Tensor, attackers: int) -> list[float]:
    """Return what El Mhamdi et al. describe, update by update and element by element."""
    rest = [np.asarray(row) for row in rows.numpy()]
    selected = []
    for _ in range(len(rows) - 2 * attackers):
        scores = []
        for number, one in enumerate(rest):
            others = sorted(
                float(((one - other) ** 2).sum()) for place, other in enumerate(rest) if place != number
            )
            score = sum(others[: max(1, len(rest) - attackers - 2)])
            scores.append((round(score, 9), sum(others)))  # two neighbours have exactly the same distance
        selected.append(rest.pop(scores.index(min(scores))))
    result = []
    for column in zip(*selected, strict=True):
        middle = np.median(column)
        closest = sorted(column, key=lambda value: abs(value - middle))[: len(column) - 2 * attackers]
        result.append(float(np.mean(closest)))
    return result


def test_the_values_closest_to_the_median_of_the_selected_updates_are_averaged() -> None:
    rows = rows_of([0], [1], [2], [4], [9], [100], [-100])  # n - 2f = 5 of them, then 3 around the median 2
    found, state = combined(Bulyan(BulyanSpec(attackers=1)), rows)
    assert (found.tolist(), state) == ([1.0], None)


@pytest.mark.parametrize(("count", "attackers"), [(3, 0), (7, 1), (8, 1), (11, 2), (14, 2), (15, 3)])
def test_it_is_what_the_definition_gives(count: int, attackers: int) -> None:
    rows = torch.randn(count, 60, generator=torch.Generator().manual_seed(count), dtype=torch.float64)
    found, _ = combined(Bulyan(BulyanSpec(attackers)), rows)
    assert np.allclose(found.numpy(), _by_hand(rows, attackers), rtol=1e-12)


def test_one_element_far_away_in_an_update_that_krum_selects_does_not_count() -> None:
    generator = torch.Generator().manual_seed(1)
    rows = torch.randn(7, 1000, generator=generator, dtype=torch.float64)
    rows[0] = rows[1:].mean(dim=0)  # close to all others
    rows[0, 3] += 20
    found, _ = combined(Bulyan(BulyanSpec(attackers=1)), rows)
    assert rows[1:, 3].min() <= found[3] <= rows[1:, 3].max()
