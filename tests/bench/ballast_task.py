"""The task of the benches: see `tests.bench.ballast`. Its data are nothing that could be learnt.

Members evaluate one sample each: all that a round has to do is done, and the model's own work, which the other
programs of the benches leave out, takes next to nothing.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn

from p2pfl.learning.data import DataPlaces
from p2pfl.learning.task import Data, Task
from tests.bench.ballast import WIDTHS

MEMBERS = 16
"""As many as any bench has."""

TRAIN_SAMPLES = 10 * MEMBERS


class Ballast:
    """See `p2pfl.learning.task.Task`."""

    def load(self, places: DataPlaces, /) -> Data:
        x = torch.zeros(TRAIN_SAMPLES, 784)
        y = torch.arange(TRAIN_SAMPLES) % 10
        return Data(x, y, x[:MEMBERS], y[:MEMBERS], tuple("0123456789"))

    def build(self, model: str) -> nn.Module:
        layers: list[nn.Module] = []
        for before, after in pairwise(WIDTHS[model]):
            layers += [nn.Linear(before, after), nn.ReLU()]
        return nn.Sequential(*layers[:-1])


TASK: Task = Ballast()
