"""The digits with a network that has batch normalisation, as a task file."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn
from torch.utils.data import TensorDataset

from p2pfl.learning.data import DataPlaces
from p2pfl.learning.tasks.digits import TASK

classes = [str(number) for number in range(10)]


def model() -> nn.Module:
    """Return two hidden layers of 200 units, as the "2NN" of the FedAvg paper, each with normalisation."""
    return nn.Sequential(
        OrderedDict(
            flat=nn.Flatten(),  # [batch, 64]
            hidden1=nn.Linear(64, 200),
            bn1=nn.BatchNorm1d(200),
            relu1=nn.ReLU(),
            hidden2=nn.Linear(200, 200),
            bn2=nn.BatchNorm1d(200),
            relu2=nn.ReLU(),
            out=nn.Linear(200, 10),
        )
    )


def data() -> tuple[TensorDataset, TensorDataset]:
    """Return 1,437 training pictures and 360 for evaluation."""
    loaded = TASK.load(DataPlaces())
    return TensorDataset(loaded.train_x, loaded.train_y), TensorDataset(loaded.test_x, loaded.test_y)
