"""Files of small models, and their aggregation, named instead of digests."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file

from p2pfl.learning import weights
from p2pfl.learning.aggregation import aggregate
from p2pfl.schema import TensorSpec
from p2pfl.spec import RunSpec
from p2pfl.work import AggregatedModel, AggregationJob, AggregationResult, NotFinite, WeightedUpdate
from tests.support.core import ballot
from tests.support.learning import SPEC

MEAN = "mean"
"""Name of the file of the new model."""

STATE = "new-state"
"""Name of the file of the new state."""


def aggregate_files(
    folder: Path,
    updates: list[tuple[str, int]],
    *,
    parent: str = "parent",
    spec: RunSpec = SPEC,
    state: str = "",
) -> AggregationResult:
    """Aggregate files of *folder*, with their numbers of examples, into its files `MEAN` and `STATE`."""
    weighted = tuple(WeightedUpdate(name, examples) for name, examples in updates)
    job = AggregationJob("run", 1, ballot(1, "ada"), spec, parent, weighted, state=state)
    return aggregate(job, folder, folder / MEAN, folder / STATE)


def write_numbers(path: Path, dtype: str, values: list[float], *, is_buffer: bool = False) -> Path:
    """Write a model of one tensor, "w"."""
    tensor = torch.tensor(values, dtype=torch.float64).to(weights.TORCH_DTYPES[dtype])
    weights.write(path, (TensorSpec("w", dtype, (len(values),), is_buffer),), [tensor])
    return path


def write_bits(path: Path, dtype: str, bits: list[int]) -> Path:
    """Write a model of one tensor, "w", from the *bits* of its elements as signed integers."""
    kind = weights.TORCH_DTYPES[dtype]
    whole = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[kind.itemsize]
    tensor = torch.tensor(bits, dtype=torch.int64).to(whole).view(kind)
    weights.write(path, (TensorSpec("w", dtype, (len(bits),)),), [tensor])
    return path


def mean_of_numbers(
    folder: Path, dtype: str, updates: list[tuple[list[float], int]], spec: RunSpec = SPEC
) -> list[float] | None:
    """Return the aggregate of *updates*, None if it is not finite; the parent is all zeros."""
    write_numbers(folder / "parent", dtype, [0.0] * len(updates[0][0]))
    names = []
    for number, (values, examples) in enumerate(updates):
        write_numbers(folder / f"u{number}", dtype, values)
        names.append((f"u{number}", examples))
    result = aggregate_files(folder, names, spec=spec)
    if not isinstance(result, AggregatedModel):
        assert result == NotFinite()
        return None
    return list(load_file(folder / MEAN)["w"].to(torch.float64).tolist())
