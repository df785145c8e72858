from __future__ import annotations

import torch

from p2pfl.learning.strategies.fedavg import FedAvg
from tests.support.whole_updates import WholeUpdates, rows_of


def test_it_is_the_mean_by_examples_and_keeps_no_state() -> None:
    weights = torch.tensor([100.0, 300.0], dtype=torch.float64)
    mean, state = FedAvg().combine(
        torch.empty(0), WholeUpdates(rows_of([1.0, -2.0], [5.0, 2.0])), weights, None
    )
    assert (mean.tolist(), state) == ([4.0, 1.0], None)


def test_its_result_lies_between_the_updates_and_does_not_depend_on_the_parent() -> None:
    assert FedAvg.stays_between
    assert not FedAvg.needs_parent
