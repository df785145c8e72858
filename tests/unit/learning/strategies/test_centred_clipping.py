from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from p2pfl.learning.strategies.centred_clipping import CentredClipping
from p2pfl.strategy_specs import CentredClippingSpec
from tests.support.whole_updates import combined, rows_of


def _by_hand(changes: Tensor, centre: Tensor, radius: float, iterations: int) -> list[float]:
    """Return the new centre with whole vectors, as in the paper."""
    point = centre.numpy()
    for _ in range(iterations):
        differences = changes.numpy() - point
        scales = [min(1.0, radius / float(np.linalg.norm(one))) for one in differences]
        point = point + np.mean([one * scale for one, scale in zip(differences, scales, strict=True)], axis=0)
    return [float(value) for value in point]


def test_differences_from_the_centre_are_clipped() -> None:
    parent, centre = rows_of([10, 20])[0], rows_of([1, 0])[0]
    rows = rows_of([11, 20.5], [14, 24])  # changes (1, 0.5) and (4, 4): (0, 0.5) and (3, 4) from the centre
    found, state = combined(CentredClipping(CentredClippingSpec(radius=1.0)), rows, parent, centre=centre)
    assert state is not None
    assert state.tolist() == [pytest.approx([1 + 0.3, (0.5 + 0.8) / 2])]
    assert found.tolist() == pytest.approx([11.3, 20.65])


@pytest.mark.parametrize("iterations", [1, 2, 5])
@pytest.mark.parametrize("radius", [0.1, 3.0, 1e3])
def test_it_is_what_whole_vectors_give(iterations: int, radius: float) -> None:
    generator = torch.Generator().manual_seed(iterations)
    changes = torch.randn(6, 30, generator=generator, dtype=torch.float64)
    centre, parent = torch.randn(2, 30, generator=generator, dtype=torch.float64)
    found, state = combined(
        CentredClipping(CentredClippingSpec(radius, iterations)), changes + parent, parent, centre=centre
    )
    expected = _by_hand(changes, centre, radius, iterations)
    assert state is not None
    assert state[0].tolist() == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert found.tolist() == pytest.approx([a + b for a, b in zip(parent.tolist(), expected, strict=True)])


def test_one_wrong_update_moves_the_result_by_a_share_of_the_radius() -> None:
    zeros = torch.zeros(5, 3, dtype=torch.float64)
    zeros[0] = 1e30
    found, _ = combined(CentredClipping(CentredClippingSpec()), zeros, centre=zeros[1])
    assert float(found.norm()) == pytest.approx(10 / 5)


def test_what_is_not_finite_in_the_parent_leaves_no_trace_in_the_state() -> None:
    parent = rows_of([1, -torch.inf, torch.nan])[0]
    rows = parent + rows_of([1, 0, 0], [3, 0, 0])
    found, state = combined(
        CentredClipping(CentredClippingSpec()), rows, parent, centre=torch.zeros(3, dtype=torch.float64)
    )
    assert state is not None
    assert state.tolist() == [[2, 0, 0]]
    assert found.isfinite().tolist() == [True, False, False]
    assert float(found[0]) == 3


def test_an_update_too_large_for_products_counts_as_no_change() -> None:
    zeros = torch.zeros(4, 1, dtype=torch.float64)
    zeros[2] = 1e200
    assert combined(CentredClipping(CentredClippingSpec()), zeros, centre=zeros[0])[0].tolist() == [0]
