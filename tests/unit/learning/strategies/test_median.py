from __future__ import annotations

import pytest
import torch

from p2pfl.learning.strategies.median import Median
from tests.support.whole_updates import combined, rows_of


def test_an_odd_number_of_updates_has_a_middle_value() -> None:
    found, state = combined(Median(), rows_of([1, -5, 3], [2, 7, 3], [1e30, 0, 3]))
    assert (found.tolist(), state) == ([2.0, 0.0, 3.0], None)


def test_an_even_number_of_updates_gives_the_mean_of_two_middle_values() -> None:
    found, _ = combined(Median(), rows_of([1, 4], [2, 4], [5, -1e30], [9, 6]))
    assert found.tolist() == [3.5, 4.0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("value", [5e-324, 1e-45, 0.1, 1.7e308, -0.0])
def test_an_element_that_is_equal_in_all_updates_stays_bit_for_bit(dtype: torch.dtype, value: float) -> None:
    equal = torch.full((4, 1), value, dtype=torch.float64).to(dtype)
    found, _ = combined(Median(), equal)
    assert found.to(dtype).numpy().tobytes() == equal[0].numpy().tobytes()


def test_examples_do_not_weigh() -> None:
    rows = rows_of([1.0], [2.0], [3.0])
    found, _ = combined(Median(), rows, examples=torch.tensor([1e9, 1, 1], dtype=torch.float64))
    assert found.tolist() == [2.0]
