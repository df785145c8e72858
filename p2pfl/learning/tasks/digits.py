"""The embedded default task: handwritten digits of 8x8 pixels.

The data are the test set of Alpaydin and Kaynak's "Optical Recognition of Handwritten Digits" (UCI, 1998) as
scikit-learn bundles it. The file is read directly: importing `sklearn.datasets` takes two seconds and 75 MB.
"""

from __future__ import annotations

import csv
import gzip
import random
from collections import OrderedDict
from pathlib import Path

import torch
from torch import nn

from p2pfl.errors import TaskError
from p2pfl.learning.catalogue import DIGITS
from p2pfl.learning.data import DataPlaces, locate
from p2pfl.learning.models import ImageShape, two_layers
from p2pfl.learning.task import Data, Task

SIDE = 8
"""Pixels along an edge."""

MOST_INK = 16
"""Pixels are 0 to 16: the file's counts of dark points in blocks of 4x4."""

SAMPLES = 1797

TEST_EVERY = 5
"""One sample in five is for testing: 360 of 1,797."""


class Digits:
    """See `p2pfl.learning.task.Task`."""

    def load(self, places: DataPlaces, /) -> Data:
        """Read the file and divide it, each class in the same proportion.

        Raises:
            TaskError: scikit-learn or its file is missing, or the file is another one.
        """
        [path] = locate(DIGITS.name, DIGITS.data, places)
        pixels, labels = _read(path)
        order = _by_class(labels)
        test = torch.tensor(order[::TEST_EVERY])
        train = torch.tensor(sorted(set(order) - set(order[::TEST_EVERY])))
        x = torch.tensor(pixels).reshape(-1, 1, SIDE, SIDE) / MOST_INK
        y = torch.tensor(labels)
        return Data(x[train], y[train], x[test], y[test], tuple("0123456789"))

    def build(self, model: str) -> nn.Module:
        """Return the convolutional net, or the paper's net of two hidden layers."""
        return _cnn() if model == "cnn" else two_layers(ImageShape(1, SIDE, SIDE), 10)


def _cnn() -> nn.Module:
    return nn.Sequential(  # x: [batch, 1, 8, 8]
        OrderedDict(
            conv1=nn.Conv2d(1, 16, 3, padding=1),  # [batch, 16, 8, 8]
            relu1=nn.ReLU(),
            conv2=nn.Conv2d(16, 32, 3, padding=1),  # [batch, 32, 8, 8]
            relu2=nn.ReLU(),
            pool=nn.MaxPool2d(2),  # [batch, 32, 4, 4]
            flat=nn.Flatten(),  # [batch, 512]
            hidden=nn.Linear(512, 64),
            relu3=nn.ReLU(),
            out=nn.Linear(64, 10),
        )
    )


def _read(path: Path) -> tuple[list[list[float]], list[int]]:
    """Return the pixels (64 a sample) and the labels in *path*."""
    try:
        with gzip.open(path, "rt", encoding="ascii", newline="") as file:
            rows = [[float(value) for value in row] for row in csv.reader(file)]
    except (OSError, EOFError, ValueError) as error:
        raise TaskError(
            f"The digits in {path} cannot be read ({error}); install scikit-learn again."
        ) from error
    if len(rows) != SAMPLES or any(len(row) != SIDE * SIDE + 1 for row in rows):
        raise TaskError(
            f"{path} does not hold the {SAMPLES} digits expected there; install scikit-learn 1.5 or later."
        )
    return [row[:-1] for row in rows], [int(row[-1]) for row in rows]


def _by_class(labels: list[int]) -> list[int]:
    """Return the sample indices class by class, in random but fixed order within a class."""
    generator = random.Random("digits")  # noqa: S311  no secret; the same split for every run
    return sorted(range(len(labels)), key=lambda index: (labels[index], generator.random()))


TASK: Task = Digits()
