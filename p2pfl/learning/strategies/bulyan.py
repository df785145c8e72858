"""Bulyan: Krum selects updates, and the mean of the values closest to the median combines them.

El Mhamdi, Guerraoui and Rouault, "The Hidden Vulnerability of Distributed Learning in Byzantium" (2018),
section 4. Krum limits how far a wrong update is from others as a whole; one element may still be far away. So
the second step treats each element by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from p2pfl.learning.strategies.elementwise import UpdatePieces, UpdateTable
from p2pfl.learning.strategies.krum import ranking, squared_distances
from p2pfl.learning.strategies.robust import Robust, mean_of
from p2pfl.learning.strategies.sorting_network import order_statistics
from p2pfl.strategy_specs import BulyanSpec


class Bulyan(Robust):
    """Selects n - 2f of n updates with Krum, and averages the n - 4f values closest to their median."""

    needs_parent: ClassVar[bool] = False

    def __init__(self, spec: BulyanSpec) -> None:
        """Make the strategy."""
        super().__init__(spec)
        self._attackers = spec.attackers

    def choose(self, table: UpdateTable) -> Sequence[int]:
        """Return the indices of the updates that Krum selects one after another, each from the rest."""
        distances = squared_distances(table.products())
        rest = list(range(len(distances)))
        selected = []
        for _ in range(len(distances) - 2 * self._attackers):  # theta = n - 2f
            order = ranking(distances[rest][:, rest], self._attackers)
            selected.append(rest.pop(int(order[0])))
        return sorted(selected)

    def combine(
        self, parent: Tensor, updates: UpdatePieces, weights: Tensor, state: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Return the mean of the values closest to the median, and *state* unchanged."""
        rows = updates.sortable().numpy()  # [theta, elements]
        ordered = [torch.from_numpy(one) for one in order_statistics(rows, range(len(rows)))]
        count = len(ordered) - 2 * self._attackers  # beta = theta - 2f
        middle = mean_of(ordered[(len(rows) - 1) // 2 : len(rows) // 2 + 1])
        # The beta values closest to the median are neighbours in the order: the closest of all such groups.
        result = mean_of(ordered[:count])
        least = _reach(ordered[:count], middle)
        for start in range(1, len(ordered) - count + 1):
            group = ordered[start : start + count]
            reach = _reach(group, middle)
            result = torch.where(reach < least, mean_of(group), result)
            least = torch.minimum(least, reach)
        return result, state


def _reach(group: Sequence[Tensor], middle: Tensor) -> Tensor:
    """Return the largest distance, [elements], of a value of *group*, in ascending order, from *middle*."""
    return torch.maximum(middle - group[0], group[-1] - middle)
