"""Pictures in batches: in memory or read from their files, changed at random for training, and scaled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Subset

from p2pfl.errors import TaskError
from p2pfl.learning.batches import Batch, Batches, TensorBatches
from p2pfl.learning.loader import LoaderBatches
from p2pfl.learning.models import ImageShape
from p2pfl.learning.pictures.files import PictureError, read_picture
from p2pfl.learning.pictures.folders import in_blocks
from p2pfl.learning.pictures.inputs import own_pictures
from p2pfl.learning.progress import ProgressLines
from p2pfl.learning.task import Scaling
from p2pfl.paths import shown

SHIFT = 8
"""Random crops are shifted by at most 1/SHIFT of each side: 4 pixels of 32, as is usual for CIFAR-10."""

MEMORY_SHARE = 0.5
"""Pictures stay in memory if they take less than this share of the available memory."""


def fit_in_memory(count: int, shape: ImageShape, device: torch.device) -> bool:
    """Whether *count* pictures of *shape* fit into the memory of this machine and of *device*."""
    available = psutil.virtual_memory().available
    if device.type == "cuda":
        available = min(available, torch.cuda.mem_get_info(device)[0])
    return count * shape.channels * shape.height * shape.width < MEMORY_SHARE * available


class PictureDataset(Dataset[tuple[Tensor, int]]):
    """Pictures of one shape with their classes, each read from its file when it is asked for."""

    def __init__(self, root: Path, paths: Sequence[str], targets: Sequence[int], shape: ImageShape) -> None:
        """*paths* are relative to *root*, *targets* the indices of the classes."""
        self.shape = shape
        self.targets = torch.tensor(targets, dtype=torch.int64)
        self._root = root
        self._paths = paths

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Return a picture, uint8 [channels, height, width], and its class."""
        return torch.from_numpy(self.read(index).copy()), int(self.targets[index])

    def read(self, index: int) -> NDArray[np.uint8]:
        """Return a picture, [channels, height, width].

        Raises:
            TaskError: the picture can no longer be read.
        """
        path = self._root / self._paths[index]
        try:
            return read_picture(path, self.shape)
        except PictureError as error:
            raise TaskError(
                f"The picture {shown(path)} can no longer be read ({error}); remove it or put it back, and "
                "start this device again."
            ) from error

    def read_all(self) -> Tensor:
        """Return all pictures, uint8 [pictures, channels, height, width].

        Raises:
            TaskError: a picture can no longer be read.
        """
        pixels = torch.empty((len(self), *self.shape), dtype=torch.uint8)
        rows = pixels.numpy()  # the same memory

        def read(block: range) -> None:
            for row in block:
                rows[row] = self.read(row)

        for _ in in_blocks(len(self), read, ProgressLines("reading pictures", len(self))):
            pass
        return pixels


class PictureStore:
    """The pictures of a device in one run: the first ones to train on, the others to evaluate on.

    They are read when they are first needed. If they fit into memory, they stay there; else they are read
    anew in each epoch.
    """

    def __init__(self, dataset: PictureDataset, train: int, device: torch.device, workers: int) -> None:
        """*train* is the number of pictures to train on; *workers* processes read what does not fit."""
        self._dataset = dataset
        self._train = train
        self._device = device
        self._workers = workers
        inputs = own_pictures(dataset.shape)
        self._scaling = Scaling.normalising(inputs.mean, inputs.deviation).to(device)
        self._parts: dict[range, Batches] = {}
        """Pictures that do not fit: loader processes stay from one epoch to the next."""

    def train_part(self, *, augment: bool) -> PictureBatches:
        """Return the pictures to train on."""
        return PictureBatches(self._part(range(self._train)), self._scaling, augment)

    def test_part(self, part: int, count: int) -> PictureBatches:
        """Return part *part* of *count* of the pictures to evaluate on."""
        rows = range(self._train, len(self._dataset))[part::count]
        return PictureBatches(self._part(rows), self._scaling)

    def _part(self, rows: range) -> Batches:
        if self._tensors is not None:
            return TensorBatches(*self._tensors, torch.tensor(rows, device=self._device))
        if rows not in self._parts:
            chosen = Subset(self._dataset, rows)
            labels = self._dataset.targets[torch.tensor(rows)]
            self._parts[rows] = LoaderBatches(chosen, self._device, workers=self._workers, labels=labels)
        return self._parts[rows]

    @cached_property
    def _tensors(self) -> tuple[Tensor, Tensor] | None:
        """Pictures and classes on the device; None if they do not fit."""
        dataset = self._dataset
        if not fit_in_memory(len(dataset), dataset.shape, self._device):
            return None
        return dataset.read_all().to(self._device), dataset.targets.to(self._device)


@dataclass(frozen=True)
class PictureBatches:
    """Batches of uint8 pictures, scaled to float32; those in random order may be augmented."""

    pictures: Batches
    """With inputs uint8 [batch, channels, height, width]."""
    scaling: Scaling
    """On the device of the batches."""
    augment: bool = False
    """Whether shuffled pictures, which are for training, are cropped and flipped at random."""

    @property
    def examples(self) -> int:
        """Number of examples."""
        return self.pictures.examples

    @property
    def labels(self) -> Tensor | None:
        """[examples] int64, the class of each."""
        return self.pictures.labels

    def shuffled(self, sizes: list[int], generator: torch.Generator) -> Iterator[Batch]:
        """Yield all examples once in random order, in batches of *sizes*."""
        # A generator of its own: the order must not depend on when the batches are drawn.
        seed = int(torch.randint(2**62, (), generator=generator)) if self.augment else 0
        changes = torch.Generator().manual_seed(seed)
        for x, y, count in self.pictures.shuffled(sizes, generator):
            yield self.scaling(augmented(x, changes) if self.augment else x), y, count

    def ordered(self, size: int) -> Iterator[Batch]:
        """Yield all examples in their order, in batches of at most *size*."""
        for x, y, count in self.pictures.ordered(size):
            yield self.scaling(x), y, count


def augmented(x: Tensor, generator: torch.Generator) -> Tensor:
    """Return pictures *x* [batch, channels, height, width], each shifted and perhaps flipped at random.

    A shift is a random crop of the picture with a margin that repeats the pixels at the edge. Half of the
    pictures are flipped left to right.
    """
    batch, channels, height, width = x.shape
    rows = _shifted(batch, height, generator)  # [batch, height]
    columns = _shifted(batch, width, generator)  # [batch, width]
    flips = torch.rand(batch, generator=generator) < 0.5
    columns[flips] = columns[flips].flip(1)
    planes = torch.arange(batch * channels).view(batch, channels, 1)
    lines = (planes * height + rows.view(batch, 1, height)).flatten().to(x.device)
    shifted = x.reshape(-1, width).index_select(0, lines).view_as(x)
    return shifted.gather(3, columns.view(batch, 1, 1, width).expand_as(x).to(x.device))


def _shifted(batch: int, side: int, generator: torch.Generator) -> Tensor:
    """Return for each picture the indices below *side*, shifted at random, in range: [batch, side]."""
    most = max(1, side // SHIFT)
    shifts = torch.randint(-most, most + 1, (batch, 1), generator=generator)
    return (torch.arange(side) + shifts).clamp(0, side - 1)
