"""FedAvg: the mean of the updates, weighted by their samples, over the whole state dict.

McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data" (2017), Algorithm
1: `w <- sum over k of n_k / n * w_k`. The sum runs in float64 on the CPU: float32 sums depend on the order in
which updates arrive. It is streaming: updates are read in pieces, a few side by side, so that a piece's sum
stays in the processor's cache while they are added to it. Only where there are more updates than that is a
sum of the whole model kept, one in float64 whatever their number.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from p2pfl.errors import BlobError
from p2pfl.learning.weights import ModelFile, bytes_of, runs, write
from p2pfl.schema import Schema, first_difference

PIECE_ELEMENTS = 32_000
"""Elements converted to or from float64 at a time: so few that they stay in a processor's cache, and that
torch does not divide the work among threads, as it does from 32,768 on. Memory sets the pace: two threads
gain a fifth of the time for twice the work, on one core nothing."""

TOGETHER = 4
"""Updates read side by side. The mean of four of 11 million parameters takes 0.14 s; adding them one after
the other to a sum in memory takes 0.26 s, half of it after the last one has come."""


class _NotFiniteError(Exception):
    """The average holds NaN or infinity."""


class FedAvg:
    """A running weighted sum of model files of one schema. Call `close` at the end."""

    def __init__(self) -> None:
        self.folds = 0
        """Updates counted."""
        self._weight = 0
        self._schema: Schema = ()
        self._open: list[tuple[ModelFile, int]] = []
        """Updates counted and not in `_sums` yet, with their weights."""
        self._sums: list[Tensor] = []
        """One for each of the schema's runs; none before there are more updates than `TOGETHER`."""

    def fold(self, path: Path, weight: int) -> None:
        """Count the update in *path*, weighted by its samples; its bytes must stay until `average`.

        Raises:
            BlobError: it is no model file, or of another schema than the first one: the sum is as before; or
            an earlier update was cut short meanwhile: the sum is of no use.
        """
        file = ModelFile(path)
        try:
            difference = first_difference(self._schema, file.schema) if self.folds else None
            if difference is not None:
                raise BlobError(f"The update {path} does not fit those summed before: {difference}.")
            if len(self._open) == TOGETHER:
                self._add_open()
        except BaseException:
            file.close()
            raise
        self._schema = file.schema
        self._open.append((file, weight))
        self._weight += weight
        self.folds += 1

    def average(self, path: Path) -> str | None:
        """Write the mean to *path*, not flushed, and return its digest.

        Return None, and leave no file, when it is not finite.

        Raises:
            BlobError: an update was cut short meanwhile.
            WorkerError: the disk refuses it.
        """
        try:
            return write(path, self._schema, self._means(), durable=False)
        except _NotFiniteError:
            path.unlink()
            return None

    def close(self) -> None:
        """Let the updates go."""
        while self._open:
            self._open.pop()[0].close()

    def _add_open(self) -> None:
        """Bring the updates that are open into the sums."""
        is_first = not self._sums
        if is_first:
            self._sums = [torch.empty(length, dtype=torch.float64) for _, length in runs(self._schema)]
        for sums, (dtype, length) in zip(self._sums, runs(self._schema), strict=True):
            desk = _Desk(dtype, length)
            for total in torch.split(sums, PIECE_ELEMENTS):
                if is_first:
                    total.zero_()
                desk.add(total, self._open)
        self.close()

    def _means(self) -> Iterator[Tensor]:
        """Yield the mean piece by piece, each valid until the next one."""
        for run, (dtype, length) in enumerate(runs(self._schema)):
            desk = _Desk(dtype, length)
            totals = torch.empty(min(PIECE_ELEMENTS, length), dtype=torch.float64)
            for start in range(0, length, PIECE_ELEMENTS):
                total = totals[: length - start]
                if self._sums:
                    total.copy_(self._sums[run][start : start + PIECE_ELEMENTS])
                else:
                    total.zero_()
                desk.add(total, self._open)
                yield desk.rounded(total.div_(self._weight))


class _Desk:
    """Where pieces of a run lie while they are worked on, small enough for a processor's cache."""

    def __init__(self, dtype: torch.dtype, length: int) -> None:
        size = min(PIECE_ELEMENTS, length)
        self._piece = torch.empty(size, dtype=dtype)
        self._wide = torch.empty(size, dtype=torch.float64)
        self._raw = bytes_of(self._piece)

    def add(self, total: Tensor, updates: Iterable[tuple[ModelFile, int]]) -> None:
        """Add to *total*, [elements] float64, the next elements of all *updates*, by their weights.

        Raises:
            BlobError: one was cut short.
        """
        count = len(total)
        piece, wide = self._piece[:count], self._wide[:count]
        raw = self._raw[: count * piece.element_size()]
        for file, weight in updates:
            file.fill(raw)
            total.add_(wide.copy_(piece), alpha=weight)

    def rounded(self, mean: Tensor) -> Tensor:
        """Return *mean*, [elements] float64, in the run's dtype. It is valid until the next call.

        Raises:
            _NotFiniteError: NaN or infinity is in it.
        """
        out = self._piece[: len(mean)]
        if out.dtype == torch.bool:
            return torch.ge(mean, 0.5, out=out)  # the majority, by samples
        if not out.dtype.is_floating_point:
            return out.copy_(mean.round_())
        out.copy_(mean)
        least, greatest = out.aminmax()  # NaN if one is; in a third of the time of `isfinite`
        if not (math.isfinite(least) and math.isfinite(greatest)):
            raise _NotFiniteError
        return out
