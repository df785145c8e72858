from __future__ import annotations

import random
from fractions import Fraction

import pytest
import torch

from p2pfl.learning.strategies.integers import MAX_WEIGHT, add_limbs, divide, limbs_of

INTEGERS = [
    torch.int8,
    torch.uint8,
    torch.int16,
    torch.uint16,
    torch.int32,
    torch.uint32,
    torch.int64,
    torch.uint64,
]


def _mean(dtype: torch.dtype, updates: list[tuple[list[int], int]]) -> list[int]:
    total = torch.zeros(limbs_of(dtype), len(updates[0][0]), dtype=torch.int64)
    for values, weight in updates:
        add_limbs(total, torch.tensor(values, dtype=dtype), weight)
    out = divide(total, sum(weight for _, weight in updates), torch.empty(total.shape[1], dtype=dtype))
    return [int(value) for value in out.tolist()]


def _by_hand(updates: list[tuple[list[int], int]]) -> list[int]:
    examples = sum(weight for _, weight in updates)
    columns = zip(*(values for values, _ in updates), strict=True)
    return [
        round(Fraction(sum(v * w for v, (_, w) in zip(column, updates, strict=True)), examples))
        for column in columns
    ]


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
@pytest.mark.parametrize("most", [3, 1000, MAX_WEIGHT // 8])
def test_the_mean_is_the_one_that_fractions_give_halves_to_even(dtype: torch.dtype, most: int) -> None:
    drawn, info = random.Random(f"{dtype}/{most}"), torch.iinfo(dtype)
    for count in (1, 2, 8):
        updates = []
        for _ in range(count):
            far = [drawn.choice([info.min, info.min + 1, info.max - 1, info.max]) for _ in range(30)]
            near = [max(info.min, drawn.randint(-3, 3)) for _ in range(30)]
            anywhere = [drawn.randint(info.min, info.max) for _ in range(30)]
            updates.append((far + near + anywhere, drawn.randint(1, most)))
        assert _mean(dtype, updates) == _by_hand(updates)


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_the_ends_of_the_range_with_the_most_examples_there_may_be_stay(dtype: torch.dtype) -> None:
    info = torch.iinfo(dtype)
    values = [info.min, info.max]
    assert _mean(dtype, [(values, MAX_WEIGHT - 1), (values, 1)]) == values
