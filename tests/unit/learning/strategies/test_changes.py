from __future__ import annotations

import math

import torch

from p2pfl.learning.strategies.changes import mean_change, summed_change


def _row(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_changes_are_differences_from_the_parent_times_their_factors() -> None:
    total = summed_change(_row(1.0, 2.0), [_row(2.0, 2.0), _row(0.0, 5.0)], _row(3.0, 0.5))
    assert total.tolist() == [3.0 * 1 + 0.5 * -1, 0.5 * 3]


def test_a_mean_change_is_weighted() -> None:
    assert mean_change(_row(1.0), [_row(2.0), _row(5.0)], _row(3.0, 1.0)).tolist() == [1.75]


def test_an_element_that_no_update_changed_has_exactly_no_change() -> None:
    same = _row(0.1, 1e300, -3e-310)
    assert mean_change(same, [same, same, same], _row(3.0, 7.0, 1_000_003.0)).tolist() == [0.0, 0.0, 0.0]


def test_where_the_parent_is_not_finite_there_is_no_change() -> None:
    parent = _row(math.inf, math.nan, 1.0)
    assert summed_change(parent, [parent, _row(math.inf, 2.0, 4.0)], _row(1.0, 1.0)).tolist() == [0, 0, 3]


def test_an_update_that_is_not_finite_shows_in_the_sum() -> None:
    assert math.isnan(summed_change(_row(1.0), [_row(math.nan)], _row(1.0)).item())
