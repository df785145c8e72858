from __future__ import annotations

import pytest
import torch

from p2pfl.learning.strategies.norm_clipping import NormClipping
from p2pfl.strategy_specs import NormClippingSpec
from tests.support.whole_updates import combined, rows_of


def test_changes_over_the_norm_are_scaled_down_to_it() -> None:
    parent = rows_of([1, 1])[0]
    rows = rows_of([1, 1.5], [4, 5])  # changes of the norms 0.5 and 5
    found, state = combined(NormClipping(NormClippingSpec(norm=1.0)), rows, parent)
    assert state is None
    assert found.tolist() == pytest.approx([1 + 0.6 / 2, 1 + (0.5 + 0.8) / 2], rel=1e-15)


def test_norm_0_is_the_median_norm_of_the_round() -> None:
    rows = rows_of([3, 0], [0, 1], [-300, 400], [2, 0])  # norms 3, 1, 500, 2: the lower middle one is 2
    found, _ = combined(NormClipping(NormClippingSpec()), rows)
    assert found.tolist() == pytest.approx([(2 - 1.2 + 2) / 4, (1 + 1.6) / 4])


def test_changes_within_the_norm_give_the_mean() -> None:
    found, _ = combined(NormClipping(NormClippingSpec(norm=10)), rows_of([1, 2], [3, 4]))
    assert found.tolist() == [2, 3]


def test_one_update_is_possible_and_a_change_of_zero_divides_by_nothing() -> None:
    assert combined(NormClipping(NormClippingSpec()), rows_of([0, 0]))[0].tolist() == [0, 0]
    found, _ = combined(NormClipping(NormClippingSpec()), rows_of([0, 0], [0, 0], [5, 0]))
    assert found.tolist() == [0, 0], "the median norm is zero"


def test_examples_do_not_weigh() -> None:
    examples = torch.tensor([1e9, 1.0], dtype=torch.float64)
    found, _ = combined(NormClipping(NormClippingSpec(norm=10)), rows_of([1], [3]), examples=examples)
    assert found.tolist() == [2]


def test_an_update_too_large_for_products_counts_as_no_change() -> None:
    rows = rows_of([1], [1], [1e200], [1])
    assert combined(NormClipping(NormClippingSpec()), rows)[0].tolist() == [0.75]
