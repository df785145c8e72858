"""A part of Fashion-MNIST and the network 2NN of McMahan et al. (2017), as a task file.

10,000 training pictures, 100 for each of 100 clients, and 2,000 test pictures: the whole data set would take
six times as long, and shows the same.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from p2pfl.learning.data import DataPlaces
from p2pfl.learning.tasks.fashion_mnist import TASK

classes = [str(number) for number in range(10)]

TRAIN_EXAMPLES = 10_000
TEST_EXAMPLES = 2000


def model() -> nn.Module:
    """Return the network: two layers of 200 neurons."""
    return nn.Sequential(nn.Linear(784, 200), nn.ReLU(), nn.Linear(200, 200), nn.ReLU(), nn.Linear(200, 10))


def data() -> tuple[TensorDataset, TensorDataset]:
    """Return training and test pictures [examples, 784], scaled to 0..1; a fixed seed draws them."""
    loaded = TASK.load(DataPlaces())
    return (
        _drawn(loaded.train_x, loaded.train_y, TRAIN_EXAMPLES),
        _drawn(loaded.test_x, loaded.test_y, TEST_EXAMPLES),
    )


def _drawn(pictures: Tensor, labels: Tensor, count: int) -> TensorDataset:
    chosen = torch.randperm(len(labels), generator=torch.Generator().manual_seed(1))[:count]
    return TensorDataset(pictures[chosen].to(torch.float32).reshape(count, 784) / 255, labels[chosen])
