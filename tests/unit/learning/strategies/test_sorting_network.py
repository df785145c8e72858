from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

from p2pfl.learning.strategies.sorting_network import network, order_statistics


@pytest.mark.parametrize("count", range(1, 11))
def test_every_rank_of_all_zeros_and_ones_is_right_so_of_all_values(count: int) -> None:
    # A network that sorts all sequences of zeros and ones sorts all sequences (Knuth, the 0-1 principle).
    columns = np.array(list(product((0, 1), repeat=count)), dtype=np.int8).T
    expected = np.sort(columns, axis=0)
    for rank in range(count):
        [found] = order_statistics(columns.copy(), [rank])
        assert np.array_equal(found, expected[rank])
    assert np.array_equal(order_statistics(columns.copy(), range(count)), expected)


@pytest.mark.parametrize("count", [17, 32, 50])
def test_the_middle_of_many_rows_is_that_of_a_sort(count: int) -> None:
    rows = np.random.default_rng(count).normal(size=(count, 200)).astype(np.float32)
    ranks = [(count - 1) // 2, count // 2]
    found = order_statistics(rows.copy(), ranks)
    assert np.array_equal(found, np.sort(rows, axis=0)[ranks])


@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8", "?"])
def test_all_types_of_numbers_are_compared(dtype: str) -> None:
    kind = np.dtype(dtype)
    values: list[Any] = [1, 0, 1] if dtype == "?" else [100, 1, 7]
    [middle] = order_statistics(np.array([[one] for one in values], dtype=kind), [1])
    assert (middle.dtype, middle[0]) == (kind, sorted(values)[1])


def test_unsigned_numbers_over_the_signed_range_are_large() -> None:
    [largest] = order_statistics(np.array([[2**64 - 1], [5], [2**63]], dtype=np.uint64), [2])
    assert largest[0] == 2**64 - 1


def test_an_element_that_is_no_number_in_one_row_is_none_in_every_rank() -> None:
    rows = np.array([[1.0, 1.0], [np.nan, 2.0], [3.0, 3.0], [4.0, 0.0]])
    assert np.isnan([one[0] for one in order_statistics(rows.copy(), [1, 2])]).all()
    assert [one[1] for one in order_statistics(rows, [1, 2])] == [1.0, 2.0]


def test_comparisons_on_which_no_rank_depends_are_left_out() -> None:
    assert len(network(10, (0,))) == 9, "a minimum of ten"
    assert len(network(10, (4, 5))) < len(network(10, tuple(range(10))))
    assert network(1, (0,)) == ()
