"""The task of the benches: see `tests.bench.ballast`. Its data are one sample a class, and nothing can be learnt."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn

from p2pfl.learning.data import DataPlaces
from p2pfl.learning.task import Data, Task
from tests.bench.ballast import WIDTHS

SAMPLES = 160
"""Ten a member of sixteen, which is as many as any bench has."""


class Ballast:
    """See `p2pfl.learning.task.Task`."""

    def load(self, places: DataPlaces, /) -> Data:
        x = torch.zeros(SAMPLES, 784)
        y = torch.arange(SAMPLES) % 10
        return Data(x, y, x, y, tuple("0123456789"))

    def build(self, model: str) -> nn.Module:
        layers: list[nn.Module] = []
        for before, after in pairwise(WIDTHS[model]):
            layers += [nn.Linear(before, after), nn.ReLU()]
        return nn.Sequential(*layers[:-1])


TASK: Task = Ballast()
