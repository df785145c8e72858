from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

from p2pfl.cards import Agreement
from p2pfl.learning.batches import TensorBatches
from p2pfl.learning.objective import Classification
from p2pfl.learning.strategies.local import LocalStart
from p2pfl.learning.strategies.q_fedavg import QFedAvgRule, fair_factors
from tests.support.learning import make_spec
from tests.support.strategies import Rounds, Trained

PARENT = [1.0, -2.0, 0.5]
RATE = 0.1


def _by_hand(model: torch.Tensor, updates: tuple[Trained, ...], q: float, lipschitz: float) -> torch.Tensor:
    """Algorithm 2, line by line."""
    deltas, curvatures = [], []
    for one in updates:
        change = lipschitz * (model - torch.tensor(one.w))
        deltas.append(one.loss**q * change)
        curvatures.append(q * one.loss ** (q - 1) * float(change.square().sum()) + lipschitz * one.loss**q)
    moved: torch.Tensor = torch.stack(deltas).sum(0) / sum(curvatures)
    return model - moved


@pytest.mark.parametrize("q", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize(("momentum", "lipschitz"), [(0.0, 10.0), (0.9, 1.0)])
def test_two_rounds_are_what_a_hand_computation_gives(
    tmp_path: Path, q: float, momentum: float, lipschitz: float
) -> None:
    rounds = Rounds(
        tmp_path, "q-fedavg", PARENT, strategy_arg={"q": q}, learning_rate=RATE, momentum=momentum
    )
    model = torch.tensor(PARENT)
    for updates in (
        (Trained([1.2, -2.0, 0.5], loss=2.5, examples=9), Trained([1.0, -1.5, 0.4], loss=0.3)),
        (Trained([1.0, -1.0, 1.0], loss=0.9), Trained([0.8, -1.0, 0.0], loss=1.4)),
    ):
        model = _by_hand(model, updates, q, lipschitz)
        assert rounds.play(*updates)["w"] == pytest.approx(model.tolist(), rel=1e-5)


def test_with_a_q_of_zero_it_is_the_mean_without_weights_and_buffers_have_theirs(tmp_path: Path) -> None:
    updates = (Trained([2.0, 0.0, 0.0], (1.0, 0.0), 30, loss=9.0), Trained([0.0, 1.0, 0.0], (5.0, 0.0), 10))
    model = Rounds(tmp_path, "q-fedavg", PARENT, strategy_arg={"q": 0.0}).play(*updates)
    assert model["w"] == pytest.approx([1.0, 0.5, 0.0])
    assert model["mean"] == [2.0, 0.0]


def test_a_member_with_a_higher_loss_moves_the_model_more(tmp_path: Path) -> None:
    updates = (Trained([1.0, 0.0, 0.0], loss=4.0), Trained([0.0, 1.0, 0.0], loss=1.0))
    model = Rounds(tmp_path, "q-fedavg", [0.0, 0.0, 0.0], learning_rate=RATE).play(*updates)
    assert model["w"][0] == pytest.approx(4 * model["w"][1])


@pytest.mark.parametrize("q", [0.0, 0.3, 1.0, 100.0])
@pytest.mark.parametrize("losses", [(0.0, 0.0), (0.0, 2.0), (-1.0, 1.0), (1e300, 1.0), (1e300, 1e300)])
def test_factors_are_numbers_whatever_the_losses_are(q: float, losses: tuple[float, float]) -> None:
    row = torch.tensor(losses, dtype=torch.float64)
    factors = fair_factors(row, torch.ones(2, dtype=torch.float64), q, 10.0)
    assert all(0 <= factor <= 1 and math.isfinite(factor) for factor in factors.tolist())


# --- on the device ------------------------------------------------------------------------------------------


def _start(module: nn.Module, x: torch.Tensor, y: torch.Tensor) -> LocalStart:
    return LocalStart(
        make_spec(strategy="q-fedavg"),
        module,
        TensorBatches(x, y, torch.arange(len(x))),
        Classification(Agreement(("red", "green"), len(x))),
        state=dict,
        memory={},
    )


def test_the_loss_of_an_update_is_that_of_the_parent_on_all_training_examples() -> None:
    torch.manual_seed(3)
    x, y = torch.randn(300, 4), torch.arange(300) % 2
    layer = nn.Linear(4, 2)
    module = nn.Sequential(layer, nn.Dropout(0.5)).train()
    rule = QFedAvgRule(_start(module, x, y))
    expected = functional.cross_entropy(layer(x), y).item()
    nn.init.zeros_(layer.weight)  # the training changes the model
    rule.correct(list(module.parameters()))
    end = rule.finish(5, RATE)
    assert end.loss == pytest.approx(expected, rel=1e-6)
    assert (end.control, end.memory) == ({}, {})


def test_a_loss_that_is_not_finite_is_a_large_number() -> None:
    module = nn.Linear(4, 2)
    rule = QFedAvgRule(_start(module, torch.full((3, 4), math.inf), torch.zeros(3, dtype=torch.int64)))
    assert rule.finish(1, RATE).loss == 1e300
