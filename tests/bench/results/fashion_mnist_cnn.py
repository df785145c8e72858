"""The network and the data of a master's thesis on aggregation strategies, as a task file.

Settings: github.com/samuele-lolli/Aggregation-Federated-Learning-Analysis: Fashion-MNIST, random crops of
pictures padded by 4 and random flips; each client keeps 20 % of its pictures for validation. Here a fifth of
all training pictures is set aside before they are divided, and the models are judged on the test split.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset, TensorDataset

from p2pfl.learning.data import DataPlaces
from p2pfl.learning.tasks.fashion_mnist import TASK

classes = [str(number) for number in range(10)]

MEAN, DEVIATION = 0.1307, 0.3081
PADDING = 4


def model() -> nn.Module:
    """Return the network: two convolutions with 16 and 32 channels, two linear layers.

    ReLU comes after the maximum of each pool, where it is computed for a quarter of the values and gives the
    same ones. With this layout of the weights a step takes two thirds of the time.
    """
    network = nn.Sequential(
        nn.Conv2d(1, 16, 5),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Conv2d(16, 32, 5),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * 4 * 4, 128),
        nn.ReLU(),
        nn.Linear(128, 10),
    )
    return network.to(memory_format=torch.channels_last)


class Augmented(Dataset[tuple[Tensor, Tensor]]):
    """Pictures that are cropped and flipped at random each time they are read."""

    def __init__(self, pictures: Tensor, targets: Tensor) -> None:
        """*pictures* are [examples, 1, 28, 28], standardised; *targets* [examples] int64."""
        black = -MEAN / DEVIATION
        self._padded = functional.pad(pictures, (PADDING,) * 4, value=black)
        self.targets = targets

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        row, column, flip = torch.randint(0, 2 * PADDING + 1, (3,)).tolist()
        picture = self._padded[index, :, row : row + 28, column : column + 28]
        return picture.flip(-1) if flip < PADDING else picture, self.targets[index]


def data() -> tuple[Augmented, TensorDataset]:
    """Return 48,000 training pictures and all test pictures."""
    loaded = TASK.load(DataPlaces())
    chosen = torch.randperm(len(loaded.train_x), generator=torch.Generator().manual_seed(42))[:48_000]
    train = _standardised(loaded.train_x[chosen])
    return Augmented(train, loaded.train_y[chosen]), TensorDataset(
        _standardised(loaded.test_x), loaded.test_y
    )


def _standardised(pictures: Tensor) -> Tensor:
    return (pictures.to(torch.float32).reshape(-1, 1, 28, 28) / 255 - MEAN) / DEVIATION
