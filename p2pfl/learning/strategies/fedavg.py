"""FedAvg: the mean of the updates, weighted by their samples, over the whole state dict.

McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data" (2017), Algorithm
1: `w <- sum over k of n_k / n * w_k`. The sum runs in float64 on the CPU: float32 sums depend on the order in
which updates arrive. It is streaming: memory is one sum in float64, whatever the number of updates, which are
read from mapped files in pieces.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from p2pfl.errors import BlobError
from p2pfl.learning.weights import TORCH_DTYPES, read_pieces, read_schema, write
from p2pfl.schema import Schema, first_difference

PIECE_ELEMENTS = 1024 * 1024
"""Elements converted to or from float64 at a time: 8 MiB, however large a tensor is."""


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
        """Flat, in the schema's order."""

    def fold(self, path: Path, weight: int) -> None:
        """Add the update in *path*, weighted by its samples.

        Raises:
            BlobError: it is no model file, or of another schema than the first one: the sum is as before; or
            it was
                cut short while it was read: the sum is of no use.
        """
        schema = read_schema(path)
        if not self.folds:
            self._schema = schema
            self._sums = [torch.zeros(spec.elements, dtype=torch.float64) for spec in schema]
        difference = first_difference(self._schema, schema)
        if difference is not None:
            raise BlobError(f"The update {path} does not fit those summed before: {difference}.")
        for piece, (total, _) in zip(read_pieces(path, PIECE_ELEMENTS), self._pieces(), strict=True):
            total.add_(piece.to(torch.float64), alpha=weight)
        self._weight += weight
        self.folds += 1

    def average(self, path: Path) -> str | None:
        """Write the mean to *path*, durably, and return its digest.

        Return None, and leave no file, when it is not finite.

        Raises:
            WorkerError: the disk refuses it.
        """
        try:
            return write(path, self._schema, self._means())
        except _NotFiniteError:
            path.unlink()
            return None

    def _pieces(self) -> Iterator[tuple[Tensor, torch.dtype]]:
        """Yield the sums piece by piece as `read_pieces` does the updates, with the dtype of their tensor."""
        for spec, total in zip(self._schema, self._sums, strict=True):
            for start in range(0, spec.elements, PIECE_ELEMENTS):
                yield total[start : start + PIECE_ELEMENTS], TORCH_DTYPES[spec.dtype]

    def _means(self) -> Iterator[Tensor]:
        for total, dtype in self._pieces():
            mean = total / self._weight
            if dtype == torch.bool:
                yield mean >= 0.5  # the majority, by samples
            elif not dtype.is_floating_point:
                yield mean.round().to(dtype)
            else:
                mean = mean.to(dtype)
                if not mean.isfinite().all():
                    raise _NotFiniteError
                yield mean
