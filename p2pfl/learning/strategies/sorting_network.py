"""Order statistics of each element over some updates, by a sorting network.

A sorting network is a fixed sequence of comparisons, each of which puts the smaller one of two values first.
Here each value is a row of many elements, so a comparison is one minimum and one maximum over two rows, which
processors compute many elements at a time. Ten rows take a tenth of the time of a sort of each column.

The network is Batcher's odd-even mergesort, without the comparisons on which no wanted rank depends.
K. E. Batcher, "Sorting Networks and Their Applications" (1968).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Comparator(NamedTuple):
    """One comparison of two rows."""

    first: int
    second: int
    keeps_smaller: bool
    """Whether the smaller value is needed; it becomes that of the first row."""
    keeps_larger: bool
    """Whether the larger value is needed; it becomes that of the second row."""


def order_statistics(rows: NDArray[Any], ranks: Sequence[int]) -> list[NDArray[Any]]:
    """Return the values, [elements], of each of *ranks* among *rows*, [rows, elements]; 0 is the smallest.

    *rows* are overwritten, and the result shares their memory. An element with NaN in any row is NaN.
    """
    current = list(rows)
    spare = np.empty_like(rows[0])
    for first, second, keeps_smaller, keeps_larger in network(len(rows), tuple(ranks)):
        one, other = current[first], current[second]
        if keeps_smaller and keeps_larger:
            np.minimum(one, other, out=spare)
            np.maximum(one, other, out=other)
            current[first], spare = spare, one
        elif keeps_smaller:
            np.minimum(one, other, out=one)
        else:
            np.maximum(one, other, out=other)
    return [current[rank] for rank in ranks]


@lru_cache(maxsize=64)
def network(count: int, ranks: tuple[int, ...]) -> tuple[Comparator, ...]:
    """Return the comparisons of *count* rows that put the value of each of *ranks* in the row of its rank."""
    needed = set(ranks)
    pruned = []
    for first, second in reversed(_odd_even_mergesort(count)):
        if first in needed or second in needed:
            pruned.append(Comparator(first, second, first in needed, second in needed))
            needed |= {first, second}
    return tuple(reversed(pruned))


def _odd_even_mergesort(count: int) -> list[tuple[int, int]]:
    """Return the pairs of rows that sort *count* rows when they are compared in this order."""
    pairs: list[tuple[int, int]] = []
    merged = 1  # sorted sequences of this length are merged in pairs
    while merged < count:
        distance = merged
        while distance >= 1:
            for start in range(distance % merged, count - distance, 2 * distance):
                pairs += [
                    (place, place + distance)
                    for place in range(start, min(start + distance, count - distance))
                    if place // (2 * merged) == (place + distance) // (2 * merged)
                ]
            distance //= 2
        merged *= 2
    return pairs
