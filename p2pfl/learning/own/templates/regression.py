"""A p2pfl task: prediction of a number from other numbers.

Try it alone with `p2pfl task check FILE`, then on every device `p2pfl node --task FILE --data TABLE.csv ..`.
TABLE.csv has a line of names, then numbers; the last column is predicted. Without --data, scikit-learn's
diabetes table is used.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_diabetes
from torch import Tensor, nn
from torch.nn import functional

import p2pfl

SCALE = 100.0
"""Unit of the predicted number: the same on all devices, so that targets are neither huge nor tiny."""


def model(agreed: p2pfl.Agreed) -> nn.Module:
    """Return a new model; `agreed` is what the data of all devices have in common."""
    (columns,) = agreed.input_shape
    return nn.Sequential(nn.Linear(columns, 32), nn.ReLU(), nn.Linear(32, 1))


def data(place: Path | None) -> tuple[Tensor, Tensor]:
    """Return inputs and targets of this device; `place` is the path of --data."""
    if place is not None:
        table = np.loadtxt(place, delimiter=",", skiprows=1, ndmin=2)
        inputs, targets = table[:, :-1], table[:, -1]
    else:
        inputs, targets = load_diabetes(return_X_y=True)
        inputs = inputs * 20  # the table comes with a deviation of 0.05
    return torch.tensor(inputs, dtype=torch.float32), torch.tensor(targets / SCALE, dtype=torch.float32)


def loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the mean loss of a batch; leave this function out for the mean squared error."""
    return functional.smooth_l1_loss(outputs.squeeze(1), targets)
