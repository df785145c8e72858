"""A worker for the task `synthetic` that does not import torch: its model is NumPy arrays.

For comparisons of starts with programs whose members do not import torch either.
"""

from __future__ import annotations

from p2pfl.schema import Schema, TensorSpec, canonical
from tests.bench.synthetic import SMALLEST, shapes
from tests.support.light_worker import LightJobs, main


def schema() -> Schema:
    """Return the schema of the smallest model."""
    return canonical(
        [TensorSpec(f"{number:02}", "F32", shape) for number, shape in enumerate(shapes(SMALLEST))]
    )


if __name__ == "__main__":
    main(LightJobs(schema()))
