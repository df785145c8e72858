"""The task `mnist`, handwritten digits, and the class of all tasks with data files like MNIST's.

LeCun, Cortes and Burges, "The MNIST database of handwritten digits" (1998). Fashion-MNIST and others have the
same file names, sizes and format (`p2pfl.learning.idx`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from p2pfl.errors import TaskError
from p2pfl.learning import idx
from p2pfl.learning.catalogue import MNIST, TaskEntry
from p2pfl.learning.data import DataPlaces, DataSet
from p2pfl.learning.download import obtain
from p2pfl.learning.models import MODELS, ImageShape
from p2pfl.learning.task import CatalogueTask, Data, Scaling


@dataclass(frozen=True)
class IdxImages:
    """A `p2pfl.learning.task.CatalogueTask` of grey images in four IDX files."""

    entry: TaskEntry
    """Its entry in the catalogue."""
    classes: tuple[str, ...]
    """Names of the classes, in the order of the labels."""
    first_labels: tuple[int, ...]
    """First labels of the training split: they tell apart data sets with the same file names and sizes."""
    train_examples: int = 60_000
    test_examples: int = 10_000
    side: int = 28
    """Edge of an image in pixels."""

    def load(self, places: DataPlaces, /) -> Data:
        """Read the four files; images stay uint8.

        Raises:
            TaskError: a file is missing, damaged, or of another data set.
        """
        assert isinstance(self.entry.data, DataSet)
        assert self.entry.inputs is not None
        train_x, train_y, test_x, test_y = obtain(self.entry.name, self.entry.data, places)
        labels = self._labels(train_y, self.train_examples)
        if tuple(labels[: len(self.first_labels)].tolist()) != self.first_labels:
            raise TaskError(
                f"{train_y} holds the labels of another data set than {self.entry.name!r}; "
                "give the folder of the right one with --data-root."
            )
        return Data(
            self._images(train_x, self.train_examples),
            labels,
            self._images(test_x, self.test_examples),
            self._labels(test_y, self.test_examples),
            self.classes,
            Scaling.normalising(self.entry.inputs.mean, self.entry.inputs.deviation),
        )

    def build(self, model: str) -> nn.Module:
        """Return a freshly initialised *model* for these images and classes."""
        return MODELS[model](ImageShape(1, self.side, self.side), len(self.classes))

    def _images(self, path: Path, examples: int) -> Tensor:
        return idx.read(path, (examples, self.side, self.side)).unsqueeze(1)  # [examples, 1, side, side]

    def _labels(self, path: Path, examples: int) -> Tensor:
        labels = idx.read(path, (examples,))
        largest = int(labels.max())
        if largest >= len(self.classes):
            raise TaskError(
                f"{path} holds the label {largest}; there are {len(self.classes)} classes, from 0."
            )
        return labels.to(torch.int64)


TASK: CatalogueTask = IdxImages(
    MNIST,
    classes=tuple("0123456789"),
    first_labels=(5, 0, 4, 1, 9, 2, 1, 3, 1, 4),
)
