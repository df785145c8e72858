from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from p2pfl.learning.strategies.fedavg import FedAvg


class Pieces:
    def __init__(self, *updates: list[float]) -> None:
        self._all = torch.tensor(updates, dtype=torch.float64)

    def __iter__(self) -> Iterator[Tensor]:
        yield from self._all

    def matrix(self) -> Tensor:
        return self._all

    def controls(self) -> Iterator[Tensor]:
        return iter(())


def test_it_is_the_mean_by_examples_and_keeps_no_state() -> None:
    weights = torch.tensor([100.0, 300.0], dtype=torch.float64)
    mean, state = FedAvg().combine(torch.empty(0), Pieces([1.0, -2.0], [5.0, 2.0]), weights, None)
    assert (mean.tolist(), state) == ([4.0, 1.0], None)


def test_its_result_lies_between_the_updates_and_does_not_depend_on_the_parent() -> None:
    assert FedAvg.stays_between
    assert not FedAvg.needs_parent
