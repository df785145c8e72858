from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from p2pfl.cards import Agreement
from p2pfl.errors import TaskError
from p2pfl.learning import training
from p2pfl.learning.batches import TensorBatches
from p2pfl.learning.objective import Classification
from p2pfl.learning.simulation.stacked import check_stacking, load_stack, stack, stacking_flaw, train_stack
from p2pfl.spec import LocalTraining

CLIENTS, EXAMPLES = 3, 11
AGREEMENT = Agreement(("left", "right", "up"), 99)
OBJECTIVE = Classification(AGREEMENT)
SEEDS = (5, 6, 7)


def options(optimizer: str = "sgd") -> LocalTraining:
    return LocalTraining(
        epochs=2,
        batch_size=4,
        learning_rate=0.1 if optimizer == "sgd" else 0.01,
        momentum=0.9,
        weight_decay=0.01,
        optimizer=optimizer,  # type: ignore[arg-type]
    )


def linear() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(72, 8, bias=False), nn.ReLU(), nn.Linear(8, 3))


def convolutional() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, groups=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 4, 2, stride=2, bias=False),
        nn.Flatten(),
        nn.Linear(4, 3),
    )


def parts() -> list[TensorBatches]:
    x, y = torch.randn(40, 2, 6, 6), torch.randint(0, 3, (40,))
    return [TensorBatches(x, y, torch.randperm(40)[:EXAMPLES]) for _ in range(CLIENTS)]


@pytest.mark.parametrize("make", [linear, convolutional])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_stack_learns_what_each_client_learns_alone(make: Callable[[], nn.Module], optimizer: str) -> None:
    torch.manual_seed(1)
    module, data = make(), parts()
    assert stacking_flaw(module) == ""
    first = {name: value.clone() for name, value in module.state_dict().items()}
    stacked = stack(module, CLIENTS)
    check_stacking(module, data, 4)
    train_stack(stacked, data, OBJECTIVE, options(optimizer), SEEDS)
    load_stack(stacked, module)
    steps, losses = train_stack(stacked, data, OBJECTIVE, options(optimizer), SEEDS)
    assert steps == 6
    for client, (part, seed) in enumerate(zip(data, SEEDS, strict=True)):
        module.load_state_dict(first)
        done, loss = training.train(
            module, part, OBJECTIVE, options(optimizer), seed=seed, after_batch=lambda done, total: None
        )
        assert done == steps
        assert losses[client].item() == pytest.approx(loss, rel=1e-5)
        found = dict(stacked.named_parameters())
        for name, wanted in module.named_parameters():
            assert not torch.equal(wanted, first[name])
            largest = wanted.abs().max()
            assert ((found[name][client] - wanted).abs().max() / largest).item() < 1e-5


def test_numbers_of_a_client_do_not_touch_those_of_others() -> None:
    torch.manual_seed(1)
    module, data = linear(), parts()
    broken = int(data[1].rows[0])
    data[1].x[broken] = torch.nan
    stacked = stack(module, CLIENTS)
    train_stack(stacked, data, OBJECTIVE, options(), SEEDS)
    found = dict(stacked.named_parameters())["1.weight"].isfinite().flatten(1).all(1)
    assert found.tolist() == [broken not in part.rows.tolist() for part in data]
    assert any(found)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.second = nn.Linear(3, 3)
        self.second.weight = self.first.weight


class Own(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))


@pytest.mark.parametrize(
    ("module", "why"),
    [
        (nn.Sequential(nn.Linear(2, 2), nn.Dropout()), "the model has a layer Dropout, whose random numbers"),
        (nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)), "the model has a layer BatchNorm1d, and only"),
        (Own(), "the model has a layer Own, and only Linear and Conv2d may have tensors"),
        (nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular"), "padded with 'circular'"),
        (Tied(), "two layers of the model share a tensor"),
        (nn.Linear(2, 2).requires_grad_(False), "some parameters of the model do not train"),
    ],
)
def test_layers_that_cannot_be_stacked_are_named(module: nn.Module, why: str) -> None:
    assert why in stacking_flaw(module)


def test_examples_that_are_not_finite_tell_nothing_about_the_model() -> None:
    module, data = linear(), parts()
    data[1].x[data[1].rows[:2]] = torch.tensor([torch.nan, torch.inf]).view(2, 1, 1, 1)
    check_stacking(module, data, 4)
    with pytest.raises(TaskError, match="in one batch"):
        check_stacking(Mixing(), data, 4)


class Noisy(Classification):
    """Draws random numbers."""

    def losses(self, outputs: Tensor, targets: Tensor, parts: int, /) -> Tensor:
        return super().losses(outputs + torch.randn_like(outputs), targets, parts)


def test_the_seeds_determine_what_a_loss_draws() -> None:
    module, data = linear(), parts()
    found = []
    for _ in range(2):
        stacked = stack(module, CLIENTS)
        _, losses = train_stack(stacked, data, Noisy(AGREEMENT), options(), SEEDS)
        found.append(losses.tolist())
    assert found[0] == found[1]


class Mixing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(72, 3)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.out(x.flatten(1))
        return found - found.mean(0)


class Reading(Mixing):
    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x.flatten(1), self.out.weight)


class Asserting(Mixing):
    def forward(self, x: Tensor) -> Tensor:
        assert len(x) == 4
        return self.out(x.flatten(1))  # type: ignore[no-any-return]


@pytest.mark.parametrize("make", [Mixing, Reading, Asserting])
def test_a_model_that_does_more_than_its_layers_is_refused(make: Callable[[], nn.Module]) -> None:
    module = make()
    assert stacking_flaw(module) == ""
    with pytest.raises(TaskError, match="the examples of several clients are in one batch; leave it out"):
        check_stacking(module, parts(), 4)
