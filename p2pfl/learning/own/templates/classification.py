"""A p2pfl task: classification of pictures.

Try it alone with `p2pfl task check FILE`, then on every device `p2pfl node --task FILE --data PHOTOS ..`.
The folder PHOTOS has a folder of pictures for each class. Without --data, scikit-learn's digits are used.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import Dataset, TensorDataset
from torchvision import transforms
from torchvision.datasets import ImageFolder

import p2pfl


def model(agreed: p2pfl.Agreed) -> nn.Module:
    """Return a new model; `agreed` is what the data of all devices have in common."""
    channels, _, _ = agreed.input_shape
    return nn.Sequential(
        nn.Conv2d(channels, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Linear(32 * 4 * 4, len(agreed.classes)),  # one output for each class of all devices
    )


def data(place: Path | None) -> Dataset[Any]:
    """Return the examples of this device; `place` is the path of --data. A tenth is held out."""
    if place is not None:
        steps = [transforms.Resize((32, 32)), transforms.ToTensor()]
        return ImageFolder(place, transforms.Compose(steps))
    digits = load_digits()
    pictures = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16  # [examples, 1, 8, 8]
    return TensorDataset(pictures, torch.tensor(digits.target))
