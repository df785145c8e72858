"""The network and the data of Flower's baseline niid_bench on Fashion-MNIST, as a task file.

Settings: `baselines/niid_bench` of github.com/adap/flower, after Li et al., "Federated Learning on Non-IID
Data Silos" (2022). Pictures are scaled to 0..1 and not standardised. The attributes `two_labels_42` and
`three_labels_42` of the training pictures, and the same with other seeds, are the baseline's partitions, for
`natural:two_labels_42`.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from p2pfl.learning.data import DataPlaces
from p2pfl.learning.tasks.fashion_mnist import TASK

classes = [str(number) for number in range(10)]

CLIENTS = 10

SEEDS = (42, 43, 44)
"""Of the partitions with two and three labels; the baseline's default is 42."""


def model() -> nn.Module:
    """Return the network: two convolutions with 6 and 16 channels, three linear layers.

    ReLU comes after the maximum of each pool, where it is computed for a quarter of the values and gives the
    same ones. With this layout of the weights a step takes two thirds of the time.
    """
    network = nn.Sequential(
        nn.Conv2d(1, 6, 5),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Conv2d(6, 16, 5),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16 * 4 * 4, 120),
        nn.ReLU(),
        nn.Linear(120, 84),
        nn.ReLU(),
        nn.Linear(84, 10),
    )
    return network.to(memory_format=torch.channels_last)


def data() -> tuple[TensorDataset, TensorDataset]:
    """Return all training and test pictures, [examples, 1, 28, 28]."""
    loaded = TASK.load(DataPlaces())
    train = _pairs(loaded.train_x, loaded.train_y)
    for seed in SEEDS:
        setattr(train, f"two_labels_{seed}", _clients(loaded.train_y, 2, seed))
        setattr(train, f"three_labels_{seed}", _clients(loaded.train_y, 3, seed))
    return train, _pairs(loaded.test_x, loaded.test_y)


def _pairs(pictures: Tensor, labels: Tensor) -> TensorDataset:
    return TensorDataset(pictures.to(torch.float32).reshape(-1, 1, 28, 28) / 255, labels)


def _clients(labels: Tensor, each: int, seed: int) -> list[int]:
    """Return the client of each picture: client i has label i and others that are drawn.

    The pictures of a label are divided among its clients, so few clients of a label have many of it.
    """
    chance = np.random.default_rng(seed)
    holders: list[list[int]] = [[] for _ in classes]
    for client in range(CLIENTS):
        chosen = [client]
        while len(chosen) < each:
            drawn = int(chance.choice(len(classes), 1)[0])
            if drawn not in chosen:
                chosen.append(drawn)
        for label in chosen:
            holders[label].append(client)
    clients = np.empty(len(labels), int)
    for label, among in enumerate(holders):
        pictures = chance.permutation((labels == label).nonzero().flatten().numpy())
        for client, part in zip(among, np.array_split(pictures, len(among)), strict=True):
            clients[part] = client
    return clients.tolist()
