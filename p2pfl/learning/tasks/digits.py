"""The default task `digits`: handwritten digits of 8x8 pixels, without a download.

The data are the test set of Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits" (UCI, 1998),
from a file of scikit-learn. The file is read directly: the import of `sklearn.datasets` takes two seconds and
75 MB.
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
from p2pfl.learning.task import CatalogueTask, Data

SIDE = 8
"""Edge of an image in pixels."""

MAX_PIXEL = 16
"""Largest value of a pixel: the file counts the dark points in blocks of 4x4."""

EXAMPLES = 1797

TEST_EVERY = 5
"""One example in five, 360 of 1,797, is in the test split."""


class Digits:
    """The `p2pfl.learning.task.CatalogueTask` of the digits."""

    def load(self, places: DataPlaces, /) -> Data:
        """Read the file; split it into training and test data, stratified by class.

        Raises:
            TaskError: scikit-learn or its file is missing, or the file has other contents.
        """
        [path] = locate(DIGITS.name, DIGITS.data, places)
        pixels, labels = _read(path)
        order = _by_class(labels)
        test = torch.tensor(order[::TEST_EVERY])
        train = torch.tensor(sorted(set(order) - set(order[::TEST_EVERY])))
        x = torch.tensor(pixels).reshape(-1, 1, SIDE, SIDE) / MAX_PIXEL
        y = torch.tensor(labels)
        return Data(x[train], y[train], x[test], y[test], tuple("0123456789"))

    def build(self, model: str) -> nn.Module:
        """Return a freshly initialised *model*: the small CNN below, or the FedAvg paper's 2NN."""
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
    """Return the pixels (64 for each example, 0 to `MAX_PIXEL`) and the labels in *path*."""
    try:
        with gzip.open(path, "rt", encoding="ascii", newline="") as file:
            rows = [[float(value) for value in row] for row in csv.reader(file)]
    except (OSError, EOFError, ValueError) as error:
        raise TaskError(
            f"The digits in {path} cannot be read ({error}); install scikit-learn again."
        ) from error
    if len(rows) != EXAMPLES or any(len(row) != SIDE * SIDE + 1 for row in rows):
        raise TaskError(
            f"{path} does not hold the {EXAMPLES} digits expected there; install scikit-learn 1.5 or later."
        )
    return [row[:-1] for row in rows], [int(row[-1]) for row in rows]


def _by_class(labels: list[int]) -> list[int]:
    """Return the indices of all examples sorted by class, in a fixed random order within each class."""
    generator = random.Random("digits")  # noqa: S311  no secret; all runs have the same split
    return sorted(range(len(labels)), key=lambda index: (labels[index], generator.random()))


TASK: CatalogueTask = Digits()
