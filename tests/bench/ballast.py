"""The models of the benches: layers of a given width and nothing learnt, so that only the moving of bytes counts.

Standard library only: the benches of peers import it in virtual environments of their own.
"""

from __future__ import annotations

from itertools import pairwise

WIDTHS: dict[str, tuple[int, ...]] = {
    "0.4m": (784, 400, 200, 10),
    "11m": (784, 2048, 4096, 256, 10),
    "100m": (784, 8192, 8192, 3200, 10),
}
"""Fully connected layers with biases, float32: 396,210, 11,053,834 and 99,856,458 parameters."""

WORK = "BALLAST_WORK"
"""Environment variable: the folder in which each worker notes how long its own work took, a line a round; none where it is not set."""


def shapes(model: str) -> list[tuple[int, ...]]:
    """Return the shapes of *model*'s tensors: a layer's weights [out, in], then its biases [out]."""
    return [shape for before, after in pairwise(WIDTHS[model]) for shape in ((after, before), (after,))]


def parameters(model: str) -> int:
    """Return how many numbers *model* has."""
    return sum(before * after + after for before, after in pairwise(WIDTHS[model]))
