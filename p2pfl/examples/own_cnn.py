"""Your own network on your own pictures: a task file.

Start it on every device with `p2pfl node --task own_cnn.py --data PHOTOS --peers ...`; PHOTOS has a folder of
pictures for each class. `p2pfl task check own_cnn.py --data PHOTOS` tries it alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import Subset
from torchvision import transforms
from torchvision.datasets import ImageFolder

import p2pfl

SIDE = 32


def block(inputs: int, outputs: int) -> nn.Sequential:
    """Return a convolution that halves the picture."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
        nn.MaxPool2d(2),
    )


def model(agreed: p2pfl.Agreed) -> nn.Module:
    """Return a new model, with an output for each class of any device."""
    last = nn.Linear(64 * (SIDE // 8) ** 2, len(agreed.classes))
    return nn.Sequential(block(3, 16), block(16, 32), block(32, 64), nn.Flatten(), nn.Dropout(0.2), last)


def data(place: Path) -> tuple[Subset[tuple[Tensor, int]], Subset[tuple[Tensor, int]]]:
    """Return the training and the test examples of this device; every fifth picture is a test."""
    size = [transforms.Resize((SIDE, SIDE)), transforms.ToTensor()]
    train = ImageFolder(place, transforms.Compose([transforms.RandomHorizontalFlip(), *size]))
    test = ImageFolder(place, transforms.Compose(size))
    numbers = range(len(train))
    return Subset(train, [n for n in numbers if n % 5]), Subset(test, [n for n in numbers if n % 5 == 0])


def optimizer(parameters: Iterable[nn.Parameter], learning_rate: float) -> torch.optim.Optimizer:
    """Return the optimizer of a local training."""
    return torch.optim.AdamW(parameters, lr=learning_rate / 10)
