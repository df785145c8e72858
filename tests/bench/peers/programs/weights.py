"""Make and perturb the model of the benches as numpy arrays.

It runs in the virtual environment of the program, so it uses numpy and the standard library only.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Weights = list[NDArray[np.float32]]


def make(shapes: Sequence[Sequence[int]], seed: int = 1) -> Weights:
    """Return arrays of the given *shapes*, filled with small random numbers."""
    numbers = np.random.default_rng(seed)
    return [numbers.random(tuple(shape), dtype=np.float32) - np.float32(0.5) for shape in shapes]


def perturb(weights: Sequence[NDArray[np.float32]], seed: int) -> Weights:
    """Return *weights* multiplied by a factor near 1 that depends on *seed*."""
    factor = np.float32(1.0 + seed % 1000 / 1e6)
    return [one * factor for one in weights]
