"""What all robust strategies have in common: they hold against some updates that are arbitrarily wrong.

Each update counts once, whatever its number of examples: that number is the member's own statement, and a
wrong update could state a large one. Integers, booleans and buffers are the median of all updates, because no
rule over parameters limits what a wrong update says in them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from p2pfl.errors import TaskError
from p2pfl.learning.strategies.elementwise import Elementwise, UpdateTable
from p2pfl.strategy_specs import StrategySpec, least_updates, strategy_name


class Robust(Elementwise):
    """The base class of robust strategies."""

    takes_median: ClassVar[bool] = True

    def __init__(self, spec: StrategySpec) -> None:
        """Make the strategy of *spec*, which determines the least number of updates."""
        self._spec = spec

    def begin(self, table: UpdateTable) -> Sequence[int]:
        """Return the indices of the updates that count, ascending.

        Raises:
            TaskError: there are fewer updates than the theory of the strategy needs.
        """
        count, least = len(table.examples), least_updates(self._spec)
        if count < least:
            raise TaskError(
                f"The strategy {strategy_name(self._spec)} needs at least {least} updates, and this round "
                f"has {count}: let more devices train, or choose fewer attackers or another strategy."
            )
        return self.choose(table)

    def choose(self, table: UpdateTable) -> Sequence[int]:
        """Return the indices of the updates that count, ascending; there are enough in *table*: here all."""
        return range(len(table.examples))


def mean_of(rows: Sequence[Tensor]) -> Tensor:
    """Return the mean, [elements] float64, of *rows*, [elements] each, which ascend in each element.

    It is between the first and the last row, so an element that is equal in all rows does not change by a
    bit.
    """
    total = rows[0].double() / len(rows)  # not the sum first: that of float64 may exceed the largest number
    for row in rows[1:]:
        total.add_(row, alpha=1 / len(rows))
    return total.clamp_(rows[0], rows[-1]) if rows[0].dtype == torch.float64 else total
