from __future__ import annotations

import numpy as np
import pytest
import torch

from p2pfl.learning.strategies.trimmed_mean import TrimmedMean
from p2pfl.strategy_specs import TrimmedMeanSpec
from tests.support.whole_updates import combined, rows_of


def test_the_smallest_and_the_largest_values_are_removed() -> None:
    rows = rows_of([1, 9], [2, 8], [4, 7], [1e30, -1e30])
    found, state = combined(TrimmedMean(TrimmedMeanSpec(attackers=1)), rows)
    assert (found.tolist(), state) == ([3.0, 7.5], None)


def test_with_the_least_number_of_updates_it_is_the_median() -> None:
    rows = rows_of([1], [2], [30], [4], [500])
    assert combined(TrimmedMean(TrimmedMeanSpec(attackers=2)), rows)[0].tolist() == [4.0]


def test_without_attackers_it_is_the_mean() -> None:
    rows = rows_of([1], [2], [6])
    assert combined(TrimmedMean(TrimmedMeanSpec(attackers=0)), rows)[0].tolist() == [3.0]


@pytest.mark.parametrize("attackers", [1, 2, 4])
def test_it_is_what_sorting_gives(attackers: int) -> None:
    rows = torch.randn(10, 50, generator=torch.Generator().manual_seed(attackers), dtype=torch.float64)
    found, _ = combined(TrimmedMean(TrimmedMeanSpec(attackers)), rows)
    expected = np.sort(rows.numpy(), axis=0)[attackers : 10 - attackers].mean(axis=0)
    assert np.allclose(found.numpy(), expected, rtol=1e-14)


@pytest.mark.parametrize("value", [5e-324, 0.1, 1.7e308])
def test_an_element_that_is_equal_in_all_updates_stays_bit_for_bit(value: float) -> None:
    rows = torch.full((9, 1), value, dtype=torch.float64)
    assert combined(TrimmedMean(TrimmedMeanSpec()), rows)[0].tolist() == [value]
