"""A p2pfl strategy: how the updates of a round become the next model.

Try it with `p2pfl task check FILE --strategy-arg step=0.5`, or with `p2pfl demo --strategy FILE:Careful`, or
in an experiment with `strategy = ["FILE:Careful"]`. Then give every device a copy of this file and
`p2pfl node --strategy FILE:Careful ..`. Its name must be the same on all of them.
"""

from __future__ import annotations

from torch import Tensor

import p2pfl


class Careful(p2pfl.Elementwise):
    """Moves each element of the model a part of the way to the median of the updates."""

    least_updates = 3  # with fewer updates a round keeps its model
    slots = ()  # numbers that the strategy keeps for each element, such as ("momentum",)

    def __init__(self, step: float = 1.0) -> None:
        """Take the arguments of --strategy-arg; all are numbers."""
        self.step = step

    def combine(
        self,
        parent: Tensor,
        updates: p2pfl.UpdatePieces,
        weights: Tensor,  # noqa: ARG002  a median does not use them
        state: Tensor | None,
    ) -> tuple[Tensor, Tensor | None]:
        """Return the new values of some elements of the model, and of the slots. All tensors are float64.

        `parent` [elements] is the model that was trained, `updates.matrix()` [updates, elements] are its
        trained copies, `weights` [updates] their numbers of examples, `state` [slots, elements] the slots.
        """
        median = updates.matrix().median(dim=0).values
        return parent + self.step * (median - parent), state
