"""A strategy applied to whole updates in memory, as the aggregation applies it to pieces of files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from p2pfl.learning.strategies.elementwise import Elementwise, UpdateTable


class WholeUpdates:
    """All elements of some updates as one piece: [updates, elements]."""

    def __init__(self, updates: Tensor) -> None:
        self._updates = updates

    def __iter__(self) -> Iterator[Tensor]:
        yield from self._updates.double()

    def matrix(self) -> Tensor:
        return self._updates.double()

    def sortable(self) -> Tensor:
        return self._updates.clone()

    def controls(self) -> Iterator[Tensor]:
        return iter(())


def rows_of(*rows: Sequence[float]) -> Tensor:
    """Return *rows* as a tensor in float64."""
    return torch.tensor(rows, dtype=torch.float64)


def table_of(products: Tensor, examples: Tensor) -> UpdateTable:
    """Return the table of updates with these *products* and numbers of *examples*."""
    some = torch.ones_like(examples)
    return UpdateTable(examples, some, some, len(examples), 0.9, 0.1, lambda: products)


def combined(
    strategy: Elementwise,
    updates: Tensor,
    parent: Tensor | None = None,
    *,
    centre: Tensor | None = None,
    examples: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Return the new model, [elements], and the new state of *strategy*, from *updates*, [updates, elements].

    Without a *parent*, that is zero. *centre* is the first slot of the state.
    """
    before = torch.zeros(updates.shape[1], dtype=torch.float64) if parent is None else parent
    counts = torch.ones(len(updates), dtype=torch.float64) if examples is None else examples
    changes = updates.double() - before
    changes[:, ~before.isfinite()] = 0
    if centre is not None:
        changes = torch.cat([changes, centre.unsqueeze(0)])
    chosen = list(strategy.begin(table_of(changes @ changes.t(), counts)))
    state = centre.unsqueeze(0) if centre is not None else None
    return strategy.combine(
        before if strategy.needs_parent else torch.empty(0, dtype=torch.float64),
        WholeUpdates(updates[chosen]),
        counts[chosen],
        state,
    )
