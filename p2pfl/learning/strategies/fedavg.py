"""FedAvg: the mean of the updates, weighted by their samples, over the whole state dict.

McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data" (2017), Algorithm
1: `w <- sum over k of n_k / n * w_k`. The sum runs in float64 on the CPU: float32 sums depend on the order in
which updates arrive. Integers are summed and divided exactly (`integers`): an element that is equal in all
updates comes out bit for bit, whatever its type.

It is streaming: updates are read in pieces, a few side by side, so that a piece's sum stays in the
processor's cache while they are added to it. Only where there are more updates than that is a sum of the
whole model kept, one in float64 whatever their number.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor

from p2pfl.errors import BlobError
from p2pfl.learning.strategies import integers
from p2pfl.learning.weights import ModelFile, bytes_of, runs, write
from p2pfl.schema import Schema, first_difference, header

PIECE_ELEMENTS = 32_000
"""Elements converted to or from float64 at a time: so few that they stay in a processor's cache, and that
torch does not divide the work among threads, as it does from 32,768 on. Memory sets the pace: two threads
gain a fifth of the time for twice the work, on one core nothing."""

TOGETHER = 4
"""Updates read side by side. The mean of four of 11 million parameters takes 0.14 s; adding them one after
the other to a sum in memory takes 0.26 s, half of it after the last one has come."""


class _NotFiniteError(Exception):
    """The average holds NaN or infinity where the parent does not."""


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
        """[rows, elements] for each of the schema's runs; none before there are more updates than
        `TOGETHER`."""

    def fold(self, path: Path, weight: int) -> None:
        """Count the update in *path*, weighted by its samples; its bytes must stay until `average`.

        Raises:
            BlobError: it is no model file, of another schema than the first one, or the samples are too many
            for its integers: the sum is as before; or an earlier update was cut short meanwhile: the sum is
            of no use.
        """
        file = ModelFile(path)
        try:
            difference = first_difference(self._schema, file.schema) if self.folds else None
            if difference is not None:
                raise BlobError(f"The update {path} does not fit those summed before: {difference}.")
            samples = self._weight + weight
            if samples > integers.MAX_WEIGHT and any(_is_integer(dtype) for dtype, _ in runs(file.schema)):
                raise BlobError(
                    f"The updates have {samples} samples together, but integers can be averaged over "
                    f"{integers.MAX_WEIGHT} at most."
                )
            if len(self._open) == TOGETHER:
                self._add_open()
        except BaseException:
            file.close()
            raise
        self._schema = file.schema
        self._open.append((file, weight))
        self._weight += weight
        self.folds += 1

    def average(self, path: Path, parent: Sequence[Path] = ()) -> str | None:
        """Write the mean to *path*, not flushed, and return its digest.

        An element of the mean that is not finite becomes that of the parent, the model that was trained from,
        if that one is not finite either: a mask of infinities stays as it is. The parent may lie at any of
        *parent*. Return None, and leave no file, when another one
        is not finite.

        Raises:
            BlobError: an update was cut short meanwhile, or the parent cannot be read.
            WorkerError: the disk refuses it.
        """
        before = _Parent(parent)
        try:
            return write(path, self._schema, self._means(before), durable=False)
        except _NotFiniteError:
            path.unlink()
            return None
        finally:
            before.close()

    def close(self) -> None:
        """Let the updates go."""
        while self._open:
            self._open.pop()[0].close()

    def _add_open(self) -> None:
        """Bring the updates that are open into the sums."""
        desks = [_desk(dtype, length) for dtype, length in runs(self._schema)]
        is_first = not self._sums
        if is_first:
            self._sums = [
                desk.sums(length) for desk, (_, length) in zip(desks, runs(self._schema), strict=True)
            ]
        for desk, sums in zip(desks, self._sums, strict=True):
            for total in torch.split(sums, PIECE_ELEMENTS, dim=1):
                desk.add(total, self._open, is_first=is_first)
        self.close()

    def _means(self, parent: _Parent) -> Iterator[Tensor]:
        """Yield the mean piece by piece, each valid until the next one."""
        offset = len(header(self._schema))
        for run, (dtype, length) in enumerate(runs(self._schema)):
            desk = _desk(dtype, length)
            totals = desk.sums(min(PIECE_ELEMENTS, length))
            for start in range(0, length, PIECE_ELEMENTS):
                total = totals[:, : length - start]
                if self._sums:
                    total.copy_(self._sums[run][:, start : start + PIECE_ELEMENTS])
                desk.add(total, self._open, is_first=not self._sums)
                mean = desk.mean(total, self._weight)
                if mean.dtype.is_floating_point and not _is_finite(mean):
                    parent.take_over(mean, offset)
                offset += mean.nbytes
                yield mean


class _Desk:
    """Where pieces of a run of floats or booleans lie while they are worked on.

    A piece is small enough for a processor's cache. A float64 has no more digits than the sum: there, what is
    equal in all updates comes out as it is because the mean is kept between their least and greatest value.
    """

    def __init__(self, dtype: torch.dtype, length: int) -> None:
        size = min(PIECE_ELEMENTS, length)
        self._piece = torch.empty(size, dtype=dtype)
        self._wide = torch.empty(size, dtype=torch.float64)
        self._raw = bytes_of(self._piece)
        self._is_bounded = dtype == torch.float64

    def sums(self, length: int) -> Tensor:
        """Return room for sums of *length* elements: [rows, elements]."""
        return torch.empty((3 if self._is_bounded else 1, length), dtype=torch.float64)

    def add(self, total: Tensor, updates: Iterable[tuple[ModelFile, int]], *, is_first: bool) -> None:
        """Add to *total*, [rows, elements], the next elements of all *updates*, by their weights.

        If it *is_first*, what is in *total* does not count.

        Raises:
            BlobError: one was cut short.
        """
        count = total.shape[1]
        piece, wide = self._piece[:count], self._wide[:count]
        raw = self._raw[: count * piece.element_size()]
        for file, weight in updates:
            file.fill(raw)
            wide.copy_(piece)
            if is_first:  # no zero to add to: it would make a positive one of negative zeros
                torch.mul(wide, weight, out=total[0])
            else:
                total[0].add_(wide, alpha=weight)
            if self._is_bounded:
                least, greatest = total[1], total[2]
                torch.minimum(wide, wide if is_first else least, out=least)
                torch.maximum(wide, wide if is_first else greatest, out=greatest)
            is_first = False

    def mean(self, total: Tensor, weight: int) -> Tensor:
        """Return *total* divided by *weight*, in the run's dtype. It is valid until the next call."""
        out, mean = self._piece[: total.shape[1]], total[0].div_(weight)
        if out.dtype == torch.bool:
            return torch.ge(mean, 0.5, out=out)  # the majority, by samples
        if self._is_bounded:
            mean = mean.clamp_(total[1], total[2])
        return out.copy_(mean)


class _IntegerDesk:
    """Where pieces of a run of integers lie while they are worked on, exactly (`integers`)."""

    def __init__(self, dtype: torch.dtype, length: int) -> None:
        self._piece = torch.empty(min(PIECE_ELEMENTS, length), dtype=dtype)
        self._raw = bytes_of(self._piece)

    def sums(self, length: int) -> Tensor:
        """Return room for sums of *length* elements: [limbs, elements]."""
        return torch.empty((integers.limbs_of(self._piece.dtype), length), dtype=torch.int64)

    def add(self, total: Tensor, updates: Iterable[tuple[ModelFile, int]], *, is_first: bool) -> None:
        """Add to *total*, [limbs, elements], the next elements of all *updates* (see `_Desk.add`)."""
        if is_first:
            total.zero_()
        piece = self._piece[: total.shape[1]]
        raw = self._raw[: piece.nbytes]
        for file, weight in updates:
            file.fill(raw)
            integers.add_limbs(total, piece, weight)

    def mean(self, total: Tensor, weight: int) -> Tensor:
        """Return *total* divided by *weight*, in the run's dtype. It is valid until the next call."""
        return integers.divide(total, weight, self._piece[: total.shape[1]])


def _desk(dtype: torch.dtype, length: int) -> _Desk | _IntegerDesk:
    return _IntegerDesk(dtype, length) if _is_integer(dtype) else _Desk(dtype, length)


def _is_integer(dtype: torch.dtype) -> bool:
    return not (dtype.is_floating_point or dtype == torch.bool)


class _Parent:
    """The model the updates were trained from, opened only where their mean is not finite somewhere."""

    def __init__(self, places: Sequence[Path]) -> None:
        self._places = places
        self._file: ModelFile | None = None

    def take_over(self, mean: Tensor, offset: int) -> None:
        """Put the parent's element where one of *mean*, at *offset* in the file, is not finite.

        Raises:
            _NotFiniteError: the parent's is finite, or there is no parent.
            BlobError: the parent cannot be read.
        """
        if not self._places:
            raise _NotFiniteError
        if self._file is None:
            self._file = self._open()
        before = torch.empty_like(mean)
        self._file.fill_from(offset, bytes_of(before))
        if (before.isfinite() & ~mean.isfinite()).any():
            raise _NotFiniteError
        bits = {2: torch.int16, 4: torch.int32, 8: torch.int64}[mean.itemsize]  # as numbers, NaN may change
        torch.where(mean.isfinite(), mean.view(bits), before.view(bits), out=mean.view(bits))

    def _open(self) -> ModelFile:
        for place in self._places[:-1]:
            with suppress(BlobError):  # it has been moved to the next one
                return ModelFile(place)
        return ModelFile(self._places[-1])

    def close(self) -> None:
        """Let the file go."""
        if self._file is not None:
            self._file.close()


def _is_finite(mean: Tensor) -> bool:
    least, greatest = mean.aminmax()  # NaN if one is; in a third of the time of `isfinite`
    return math.isfinite(least) and math.isfinite(greatest)
