"""FedAvg: the mean of the updates, weighted by their samples, over the whole state dict.

McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data" (2017), Algorithm
1: `w <- sum over k of n_k / n * w_k`. The sum runs in float64 on the CPU: float32 sums depend on the order in
which updates arrive. It is streaming: memory is one sum in float64, whatever the number of updates, which are
read in pieces.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from p2pfl.errors import BlobError
from p2pfl.learning.weights import ModelFile, runs, write
from p2pfl.schema import Schema, first_difference

PIECE_ELEMENTS = 32_000
"""Elements converted to or from float64 at a time: so few that they stay in a processor's cache, and that
torch does not divide the work among threads, as it does from 32,768 on. Memory sets the pace: two threads
gain a fifth of the time for twice the work, on one core nothing."""


class _NotFiniteError(Exception):
    """The average holds NaN or infinity."""


class FedAvg:
    """A running weighted sum of model files of one schema."""

    def __init__(self) -> None:
        self.folds = 0
        """Updates in the sum."""
        self._weight = 0
        self._schema: Schema = ()
        self._sums: list[Tensor] = []
        """One for each of the schema's runs."""

    def fold(self, path: Path, weight: int) -> None:
        """Add the update in *path*, weighted by its samples.

        Raises:
            BlobError: it is no model file, or of another schema than the first one: the sum is as before; or
            it was
                cut short while it was read: the sum is of no use.
        """
        with ModelFile(path) as file:
            if not self.folds:
                self._schema = file.schema
                self._sums = [torch.empty(length, dtype=torch.float64) for _, length in runs(file.schema)]
            difference = first_difference(self._schema, file.schema)
            if difference is not None:
                raise BlobError(f"The update {path} does not fit those summed before: {difference}.")
            for piece, (total, _) in zip(file.pieces(PIECE_ELEMENTS), self._pieces(), strict=True):
                if not self.folds:
                    total.zero_()
                total.add_(piece, alpha=weight)
        self._weight += weight
        self.folds += 1

    def average(self, path: Path) -> str | None:
        """Write the mean to *path*, not flushed, and return its digest.

        Return None, and leave no file, when it is not finite.

        Raises:
            WorkerError: the disk refuses it.
        """
        try:
            return write(path, self._schema, self._means(), durable=False)
        except _NotFiniteError:
            path.unlink()
            return None

    def _pieces(self) -> Iterator[tuple[Tensor, torch.dtype]]:
        """Yield the sums piece by piece as a `ModelFile` does an update, with the dtype of its elements."""
        for (dtype, _), total in zip(runs(self._schema), self._sums, strict=True):
            for start in range(0, len(total), PIECE_ELEMENTS):
                yield total[start : start + PIECE_ELEMENTS], dtype

    def _means(self) -> Iterator[Tensor]:
        for total, dtype in self._pieces():
            mean = total / self._weight
            if dtype == torch.bool:
                yield mean >= 0.5  # the majority, by samples
            elif not dtype.is_floating_point:
                yield mean.round().to(dtype)
            else:
                mean = mean.to(dtype)
                least, greatest = mean.aminmax()  # NaN if one is; in a third of the time of `isfinite`
                if not (math.isfinite(least) and math.isfinite(greatest)):
                    raise _NotFiniteError
                yield mean
