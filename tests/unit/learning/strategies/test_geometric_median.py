from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from p2pfl.learning.strategies.geometric_median import GeometricMedian
from p2pfl.strategy_specs import GeometricMedianSpec
from tests.support.whole_updates import combined, rows_of


def _weiszfeld(rows: Tensor, smoothing: float, iterations: int) -> list[float]:
    """Return what Algorithm 2 gives, from the mean on, with whole vectors."""
    values = rows.numpy()
    point = values.mean(axis=0)
    for _ in range(iterations):
        weights = 1 / np.maximum(smoothing, np.linalg.norm(values - point, axis=1))
        point = (weights[:, None] * values).sum(axis=0) / weights.sum()
    return [float(value) for value in point]


def test_of_a_triangle_it_is_the_point_that_sees_all_sides_at_120_degrees() -> None:
    height = math.sqrt(3)
    found, state = combined(
        GeometricMedian(GeometricMedianSpec()), rows_of([-1, 0], [1, 0], [0, height], [0, height / 3])
    )
    assert state is None
    assert found.tolist() == pytest.approx([0, height / 3], abs=1e-6)


def test_on_a_line_it_is_the_middle_update() -> None:
    found, _ = combined(GeometricMedian(GeometricMedianSpec()), rows_of([0], [1], [50]))
    assert found.tolist() == pytest.approx([1.0], abs=1e-5)


@pytest.mark.parametrize("count", [3, 4, 10, 25])
def test_it_is_where_the_algorithm_of_the_paper_converges_to(count: int) -> None:
    generator = torch.Generator().manual_seed(count)
    rows = torch.randn(count, 30, generator=generator, dtype=torch.float64)
    parent = torch.randn(30, generator=generator, dtype=torch.float64)
    found, _ = combined(GeometricMedian(GeometricMedianSpec()), rows, parent)
    assert found.tolist() == pytest.approx(_weiszfeld(rows, 1e-6, 1000), abs=1e-6)


@pytest.mark.parametrize("distance", [1e3, 1e15, 1e30])
def test_four_of_nine_updates_however_far_away_move_it_by_no_more_than_the_others_differ(
    distance: float,
) -> None:
    rows = torch.randn(9, 20, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    rows[:4] = distance
    found, _ = combined(GeometricMedian(GeometricMedianSpec()), rows)
    centre = rows[4:].mean(dim=0)
    # Lemma of the paper: at most 2 * honest / (honest - attackers) times the largest honest distance
    assert (found - centre).norm() <= 10 * max((row - centre).norm() for row in rows[4:])


def test_updates_that_are_all_equal_stay() -> None:
    found, _ = combined(GeometricMedian(GeometricMedianSpec()), rows_of([0.1, 7], [0.1, 7], [0.1, 7]))
    assert found.tolist() == pytest.approx([0.1, 7], rel=1e-15)


def test_an_update_too_large_for_products_does_not_count() -> None:
    rows = rows_of([0, 1], [1, 0], [1, 1], [1e200, 0])
    assert combined(GeometricMedian(GeometricMedianSpec()), rows)[0].abs().max() < 2


def test_only_updates_that_are_all_too_large_give_what_is_not_finite() -> None:
    strategy = GeometricMedian(GeometricMedianSpec())
    assert strategy.coefficients(torch.full((3, 3), torch.inf, dtype=torch.float64)).tolist() == [1, 1, 1]
