"""Images in IDX files: what MNIST and the data sets made to replace it have in common."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from p2pfl.errors import TaskError
from p2pfl.learning import idx
from p2pfl.learning.catalogue import TaskEntry
from p2pfl.learning.data import DataPlaces, DataSet
from p2pfl.learning.download import obtain
from p2pfl.learning.models import MODELS, ImageShape
from p2pfl.learning.task import Data, Scaling


@dataclass(frozen=True)
class IdxImages:
    """A task of grey images; see `p2pfl.learning.task.Task`."""

    entry: TaskEntry
    classes: tuple[str, ...]
    mean: float
    """Of all training pixels, as a share of the brightest."""
    deviation: float
    """Their standard deviation."""
    first_labels: tuple[int, ...]
    """Of the training split. All these data sets have the same file names and sizes: by this they differ."""
    train_samples: int = 60_000
    test_samples: int = 10_000
    side: int = 28
    """Pixels along an edge."""

    def load(self, places: DataPlaces, /) -> Data:
        """Read the four files; pixels stay bytes.

        Raises:
            TaskError: one is missing, damaged, or of another data set.
        """
        assert isinstance(self.entry.data, DataSet)
        train_x, train_y, test_x, test_y = obtain(self.entry.name, self.entry.data, places)
        labels = self._labels(train_y, self.train_samples)
        if tuple(labels[: len(self.first_labels)].tolist()) != self.first_labels:
            raise TaskError(
                f"{train_y} holds the labels of another data set than {self.entry.name!r}; "
                "name the folder with the right one by --data-root."
            )
        return Data(
            self._images(train_x, self.train_samples),
            labels,
            self._images(test_x, self.test_samples),
            self._labels(test_y, self.test_samples),
            self.classes,
            Scaling.normalising((self.mean,), (self.deviation,)),
        )

    def build(self, model: str) -> nn.Module:
        """Return *model* for these images."""
        return MODELS[model](ImageShape(1, self.side, self.side), len(self.classes))

    def _images(self, path: Path, samples: int) -> Tensor:
        return idx.read(path, (samples, self.side, self.side)).unsqueeze(1)  # [samples, 1, side, side]

    def _labels(self, path: Path, samples: int) -> Tensor:
        labels = idx.read(path, (samples,))
        largest = int(labels.max())
        if largest >= len(self.classes):
            raise TaskError(
                f"{path} holds the label {largest}; there are {len(self.classes)} classes, from 0."
            )
        return labels.to(torch.int64)
