from __future__ import annotations

import math
import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from p2pfl.learning.optimizers import Sgd, build_optimizer, scheduled
from tests.support.learning import make_spec


def _net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 3))


def _examples() -> tuple[Tensor, Tensor]:
    return torch.randn(60, 2, generator=torch.Generator().manual_seed(1)), torch.arange(60) % 3


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_optimizers_move_parameters_as_torchs_own_do(name: str, momentum: float, weight_decay: float) -> None:
    x, y = _examples()
    mine, theirs = _net(), _net()
    options = make_spec(
        optimizer=name, learning_rate=0.1, momentum=momentum, weight_decay=weight_decay
    ).training
    own = build_optimizer(list(mine.parameters()), options)
    torchs: torch.optim.Optimizer
    if name == "sgd":
        torchs = torch.optim.SGD(theirs.parameters(), 0.1, momentum, weight_decay=weight_decay)
    else:
        kind = torch.optim.Adam if name == "adam" else torch.optim.AdamW
        torchs = kind(theirs.parameters(), 0.1, weight_decay=weight_decay)
    for _ in range(8):
        for module, optimizer in ((mine, own), (theirs, torchs)):
            optimizer.zero_grad()
            functional.cross_entropy(module(x), y).backward()  # type: ignore[no-untyped-call]  # torch has no types for it
            optimizer.step()
    for one, other in zip(mine.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(one, other, rtol=0, atol=1e-6)


def test_a_parameter_without_gradient_stays_and_gradients_are_cleared() -> None:
    used, unused = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    sgd = Sgd([used, unused], make_spec(learning_rate=0.5, weight_decay=0.1, momentum=0.0).training)
    (used * 2).sum().backward()  # type: ignore[no-untyped-call]  # torch has no types for it
    sgd.step()
    assert used.tolist() == pytest.approx([1 - 0.5 * 2.1] * 2)
    assert unused.tolist() == [1, 1]
    assert used.grad is None
    used.sum().backward()  # type: ignore[no-untyped-call]  # torch has no types for it
    sgd.zero_grad()
    sgd.step()
    assert used.tolist() == pytest.approx([-0.05] * 2)


def _rates(schedule: str, rounds: int) -> list[float]:
    options = make_spec(schedule=schedule, learning_rate=0.4).training
    return [scheduled(options, trained, rounds).learning_rate for trained in range(rounds)]


def test_without_a_schedule_every_round_has_the_same_rate() -> None:
    assert _rates("none", 3) == [0.4, 0.4, 0.4]


def test_the_step_schedule_is_a_tenth_from_half_and_a_hundredth_from_three_quarters() -> None:
    assert _rates("step", 8) == pytest.approx([0.4] * 4 + [0.04] * 2 + [0.004] * 2)
    assert _rates("step", 5) == pytest.approx([0.4] * 3 + [0.04] + [0.004])
    assert _rates("step", 1) == [0.4]


@pytest.mark.parametrize("rounds", [1, 2, 7])
def test_the_cosine_schedule_is_torchs_by_round(rounds: int) -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], 0.4)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, rounds)
    expected = []
    for _ in range(rounds):
        expected.append(theirs.get_last_lr()[0])
        optimizer.step()
        theirs.step()
    assert _rates("cosine", rounds) == pytest.approx(expected)
    assert theirs.get_last_lr() == pytest.approx([0.0])
    if rounds == 2:
        assert _rates("cosine", 2) == pytest.approx([0.4, 0.4 * (1 + math.cos(math.pi / 2)) / 2])


PROGRAM = """
import sys, torch
from p2pfl.learning.optimizers import build_optimizer
from p2pfl.spec import LocalTraining
options = LocalTraining(1, 8, 0.1, 0.9, 0.0, optimizer=sys.argv[1])
parameter = torch.nn.Parameter(torch.ones(2))
parameter.sum().backward()
build_optimizer([parameter], options).step()
print("torch._dynamo" in sys.modules)
"""


@pytest.mark.parametrize(("name", "imports"), [("sgd", "False"), ("adamw", "True")])
def test_only_torchs_optimizers_import_its_compiler(name: str, imports: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, name], capture_output=True, text=True, check=True, timeout=100
    )
    assert done.stdout.strip() == imports
