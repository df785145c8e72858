from __future__ import annotations

import torch

from p2pfl.learning.strategies.elementwise import weighted_mean


def test_a_mean_is_weighted() -> None:
    updates = torch.tensor([[1.0, 0.0], [5.0, 4.0]], dtype=torch.float64)
    assert weighted_mean(updates, torch.tensor([3.0, 1.0])).tolist() == [2.0, 1.0]


def test_a_mean_of_negative_zeros_is_one() -> None:
    updates = torch.tensor([[-0.0], [-0.0]], dtype=torch.float64)
    assert torch.signbit(weighted_mean(updates, torch.ones(2, dtype=torch.float64))).item()


def test_a_mean_leaves_the_updates_as_they_were() -> None:
    updates = torch.tensor([[1.0], [2.0]], dtype=torch.float64)
    weighted_mean(updates, torch.tensor([3.0, 1.0], dtype=torch.float64))
    assert updates.tolist() == [[1.0], [2.0]]
