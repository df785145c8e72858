"""Sizes of the benches' models, which are never trained: the benches measure the transfer of their bytes.

Standard library only: the programs of `tests.bench.peers` import this module in their own virtual
environments.
"""

from __future__ import annotations

from itertools import pairwise

WIDTHS: dict[str, tuple[int, ...]] = {
    "0.4m": (784, 400, 200, 10),
    "11m": (784, 2048, 4096, 256, 10),
    "100m": (784, 8192, 8192, 3200, 10),
}
"""Fully connected layers with biases, float32: 396,210, 11,053,834 and 99,856,458 parameters."""

SMALLEST = "0.4m"
"""The model for figures of starts and of idle memory."""

WORK = "SYNTHETIC_WORK"
"""Environment variable: folder in which each worker writes the seconds of its own work, one line for each
round.

Not set: the workers write nothing.
"""


def shapes(model: str) -> list[tuple[int, ...]]:
    """Return the shapes of *model*'s tensors: for each layer weights [out, in] and biases [out]."""
    return [shape for before, after in pairwise(WIDTHS[model]) for shape in ((after, before), (after,))]


def parameters(model: str) -> int:
    """Return the number of parameters of *model*."""
    return sum(before * after + after for before, after in pairwise(WIDTHS[model]))
