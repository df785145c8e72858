"""Sums and means of the changes of updates, which a server optimizer takes in place of a gradient.

A change is update minus parent. The differences are computed before they are summed, so an element that is
equal in parent and updates has a change of exactly 0.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import torch
from torch import Tensor

from p2pfl.learning.strategies.elementwise import Elementwise, UpdateTable
from p2pfl.learning.weights import is_finite


class AmongMembers(Elementwise):
    """The base of servers whose state is about the whole roster, also where a sample of it trains."""

    averages_buffers: ClassVar[bool] = True
    members = 1
    """Size of the roster."""

    def begin(self, table: UpdateTable) -> range:
        """Take over the size of the roster."""
        self.members = table.members
        return range(len(table.examples))


def summed_change(parent: Tensor, updates: Iterable[Tensor], factors: Tensor) -> Tensor:
    """Return the sum of the changes of *updates*, each times its element of *factors*, [updates].

    *parent*, each update and the result are [elements] float64. Where the parent is not finite the result is
    0, so that a mask of infinities does not spoil a strategy's state.
    """
    total, change = torch.zeros_like(parent), torch.empty_like(parent)
    for update, factor in zip(updates, factors.tolist(), strict=True):
        torch.sub(update, parent, out=change)
        total.add_(change, alpha=factor)
    if not is_finite(parent):
        total.masked_fill_(~parent.isfinite(), 0.0)
    return total


def mean_change(parent: Tensor, updates: Iterable[Tensor], weights: Tensor) -> Tensor:
    """Return the mean of the changes of *updates*, weighted by *weights*: `summed_change` with shares."""
    return summed_change(parent, updates, weights / weights.sum())
