"""The task of the benches, with the models of `tests.bench.synthetic` and meaningless data.

Each member evaluates one example. So a round has all its steps, and the computation of the model, which the
other programs in the comparison leave out, takes almost no time.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn

from p2pfl.learning.data import DataPlaces
from p2pfl.learning.task import CatalogueTask, Data
from tests.bench.synthetic import WIDTHS

MEMBERS = 16
"""Largest number of members in a bench."""

TRAIN_EXAMPLES = 10 * MEMBERS


class Synthetic:
    """The `p2pfl.learning.task.CatalogueTask` of the benches."""

    def load(self, places: DataPlaces, /) -> Data:
        x = torch.zeros(TRAIN_EXAMPLES, 784)
        y = torch.arange(TRAIN_EXAMPLES) % 10
        return Data(x, y, x[:MEMBERS], y[:MEMBERS], tuple("0123456789"))

    def build(self, model: str) -> nn.Module:
        layers: list[nn.Module] = []
        for before, after in pairwise(WIDTHS[model]):
            layers += [nn.Linear(before, after), nn.ReLU()]
        return nn.Sequential(*layers[:-1])


TASK: CatalogueTask = Synthetic()
