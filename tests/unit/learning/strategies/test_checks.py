from __future__ import annotations

import pytest
import torch

from p2pfl.learning.strategies.checks import StrategyError, checked_choice, checked_result, checked_start

PIECE = torch.zeros(4, dtype=torch.float64)
STATE = torch.zeros(2, 4, dtype=torch.float64)


def test_what_fits_passes() -> None:
    assert checked_start((1.0, 2), ("a", "b")).tolist() == [1.0, 2.0]
    assert checked_choice(range(3), 3) == [0, 1, 2]
    assert checked_choice(torch.tensor([0, 2]), 3) == [0, 2]
    assert checked_result((PIECE, STATE), 4, 2) == (PIECE, STATE)
    assert checked_result((PIECE, STATE), 4, 0) == (PIECE, None)


@pytest.mark.parametrize("initial", [(1.0,), (), None, ("x", "y"), 1.0])
def test_a_state_begins_with_a_number_for_each_slot(initial: object) -> None:
    with pytest.raises(StrategyError, match=r"initial_state\(\) returned .* each of 2 slots is expected"):
        checked_start(initial, ("a", "b"))


@pytest.mark.parametrize("chosen", [[], [2, 1], [1, 1], [-1, 0], [3], None, ["x"]])
def test_chosen_updates_are_ascending_indices(chosen: object) -> None:
    with pytest.raises(StrategyError, match=r"begin\(\) returned .* ascending indices of 3 updates"):
        checked_choice(chosen, 3)


@pytest.mark.parametrize(
    ("combined", "words"),
    [
        (PIECE, r"returned \[4\], and a pair \(values, state\) is expected"),
        ((PIECE,), "returned tuple, and a pair"),
        ((PIECE[:1], STATE), r"returned values of \[1\], and a tensor \[4\]"),
        ((PIECE.sum(), STATE), r"returned values of \[\], and a tensor \[4\]"),
        ((None, STATE), "returned values of NoneType"),
        ((PIECE, None), r"returned a state of NoneType, and a tensor \[2, 4\]"),
        ((PIECE, PIECE), r"returned a state of \[4\], and a tensor \[2, 4\]"),
    ],
)
def test_a_result_of_another_shape_is_told(combined: object, words: str) -> None:
    with pytest.raises(StrategyError, match=rf"combine\(\) {words}"):
        checked_result(combined, 4, 2)
