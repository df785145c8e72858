"""A strategy of your own: the mean of the updates, smoothed over the rounds.

Give every device a copy, and start it with `p2pfl node --strategy own_strategy.py:Smooth --peers ...`.
"""

from __future__ import annotations

from torch import Tensor

import p2pfl


class Smooth(p2pfl.Elementwise):
    """Moves the model by a moving average of its changes, so that single rounds matter less."""

    slots = ("velocity",)  # kept for each element of the model, from round to round, by whoever aggregates
    initial = (0.0,)

    def __init__(self, decay: float = 0.5) -> None:
        """Take the argument `--strategy-arg decay=0.9`."""
        self.decay = decay

    def combine(
        self, parent: Tensor, updates: p2pfl.UpdatePieces, weights: Tensor, state: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Return the new elements of a piece of the model, [elements], and the state, [slots, elements]."""
        assert state is not None  # there are slots
        mean = (weights @ updates.matrix()) / weights.sum()  # [updates] @ [updates, elements]
        velocity = self.decay * state[0] + (1 - self.decay) * (mean - parent)
        return parent + velocity, velocity[None]
