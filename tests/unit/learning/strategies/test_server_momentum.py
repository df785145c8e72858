from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.support.strategies import Rounds, Trained

PARENT = [1.0, -2.0, 0.5]
FIRST = (Trained([2.0, -2.0, 0.5], (1.0, 4.0), 30), Trained([1.0, 0.0, 0.5], (5.0, 0.0), 10))
"""Their mean change, weighted by examples, is 0.75, 0.5, 0."""


def test_fedavgm_of_two_rounds_is_what_a_hand_computation_gives(tmp_path: Path) -> None:
    rounds = Rounds(tmp_path, "fedavgm", PARENT, strategy_arg={"server_lr": 0.5, "server_momentum": 0.8})
    model = rounds.play(*FIRST)
    momentum = torch.tensor([0.75, 0.5, 0.0])
    by_hand = torch.tensor(PARENT) + 0.5 * momentum
    assert model["w"] == pytest.approx(by_hand.tolist())
    assert rounds.state()["momentum"] == pytest.approx(momentum.tolist())
    update = torch.tensor([1.0, 1.0, 1.0])
    model = rounds.play(Trained(update.tolist()))
    momentum = 0.8 * momentum + (update - by_hand)
    assert model["w"] == pytest.approx((by_hand + 0.5 * momentum).tolist())
    assert rounds.state()["momentum"] == pytest.approx(momentum.tolist())


def test_diloco_of_two_rounds_is_a_step_of_torch_with_nesterov(tmp_path: Path) -> None:
    rounds = Rounds(tmp_path, "diloco", PARENT)
    by_hand = torch.nn.Parameter(torch.tensor(PARENT))
    outer = torch.optim.SGD([by_hand], lr=0.7, momentum=0.9, nesterov=True)
    for updates in (FIRST, (Trained([3.0, 1.0, 1.0]), Trained([0.0, 0.0, 0.0]))):
        examples = sum(one.examples for one in updates)
        mean = sum(torch.tensor(one.w) * one.examples for one in updates) / examples
        by_hand.grad = by_hand.detach() - mean
        outer.step()
        assert rounds.play(*updates)["w"] == pytest.approx(by_hand.tolist(), rel=1e-6)


@pytest.mark.parametrize(
    ("strategy", "server_momentum"), [("fedavgm", 0.0), ("fedavgm", 0.9), ("diloco", 0.0)]
)
def test_without_momentum_or_in_the_first_round_the_mean_is_reached(
    tmp_path: Path, strategy: str, server_momentum: float
) -> None:
    arguments = {"server_lr": 1.0, "server_momentum": server_momentum}
    model = Rounds(tmp_path, strategy, PARENT, strategy_arg=arguments).play(*FIRST)
    assert model["w"] == [1.75, -1.5, 0.5]


@pytest.mark.parametrize("strategy", ["fedavgm", "diloco"])
def test_buffers_are_the_mean_by_examples_and_have_no_momentum(tmp_path: Path, strategy: str) -> None:
    rounds = Rounds(tmp_path, strategy, PARENT)
    assert rounds.play(*FIRST)["mean"] == [2.0, 3.0]
    assert rounds.play(Trained(PARENT, (7.0, 7.0)))["mean"] == [7.0, 7.0]
    assert rounds.buffer_state() == {"momentum": [0.0, 0.0]}
