from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from p2pfl.learning.strategies.combination import Combination, WeightedCombination
from p2pfl.strategy_specs import NormClippingSpec, StrategySpec
from tests.support.whole_updates import combined, rows_of, table_of

SPEC: StrategySpec = NormClippingSpec()


class Fixed(Combination):
    def __init__(self, values: Sequence[float]) -> None:
        super().__init__(SPEC)
        self._values = values

    def coefficients(self, products: Tensor) -> Tensor:
        return torch.tensor(self._values, dtype=torch.float64)


class FixedWeights(Fixed, WeightedCombination):
    """The same coefficients as weights."""


def test_it_is_the_parent_plus_coefficients_times_changes() -> None:
    parent = rows_of([1, 1])[0]
    found, _ = combined(Fixed([0.5, 0, 2]), rows_of([3, 1], [9, 9], [1, 2]), parent)
    assert found.tolist() == [2, 3]


def test_updates_with_the_coefficient_zero_are_not_read() -> None:
    products = torch.ones(3, 3, dtype=torch.float64)
    assert list(Fixed([0.5, 0, 2]).begin(table_of(products, products[0]))) == [0, 2]


def test_an_element_of_which_no_update_changes_a_bit_stays() -> None:
    parent = torch.tensor([0.1, 5e-324, 1.7e308], dtype=torch.float64)
    found, _ = combined(Fixed([0.3, 0.3]), torch.stack([parent, parent]), parent)
    assert torch.equal(found, parent)


def test_one_update_alone_is_the_result_bit_for_bit() -> None:
    rows = rows_of([0.1, 1e-310, -0.0], [1, 1, 1])
    found, _ = combined(FixedWeights([1, 0]), rows)
    assert found.numpy().tobytes() == rows[0].numpy().tobytes()


def test_weights_are_relative() -> None:
    assert combined(FixedWeights([3, 1]), rows_of([1], [5]))[0].tolist() == [2]


def test_without_any_coefficient_one_update_is_read_and_changes_nothing() -> None:
    parent = rows_of([1, 2])[0]
    assert combined(Fixed([0, 0]), rows_of([3, 3], [4, 4]), parent)[0].tolist() == [1, 2]
