from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from p2pfl.cards import Agreement
from p2pfl.errors import TaskError
from p2pfl.learning import training
from p2pfl.learning.batches import Batch, Batches, TensorBatches
from p2pfl.learning.objective import Classification
from p2pfl.learning.precision import Precision
from p2pfl.learning.strategies.local import LocalEnd
from p2pfl.learning.task import Scaling
from p2pfl.messages import ClassCount
from p2pfl.spec import LocalTraining
from tests.support.learning import make_spec

OBJECTIVE = Classification(Agreement(("red", "green", "blue"), 60))


def _ignore(done: int, total: int) -> None:
    pass


def _blobs(samples: int = 60, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Three well separated clouds of points in the plane."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(samples) % 3
    centres = torch.tensor([[0.0, 4.0], [4.0, 0.0], [-4.0, -4.0]])
    return centres[y] + torch.randn(samples, 2, generator=generator), y


def _part(x: Tensor, y: Tensor, rows: Tensor | None = None, scaling: Scaling | None = None) -> TensorBatches:
    return TensorBatches(x, y, torch.arange(len(y)) if rows is None else rows, scaling)


def _net(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 3))


def _options(**changes: Any) -> LocalTraining:
    return make_spec(**changes).training


def _train(
    module: nn.Module, part: Batches, options: LocalTraining, *, seed: int = 0, **more: Any
) -> tuple[int, float]:
    return training.train(module, part, OBJECTIVE, options, seed=seed, after_batch=_ignore, **more)


def _assert_equal(mine: nn.Module, theirs: nn.Module, tolerance: float = 1e-6) -> None:
    for one, other in zip(mine.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=tolerance)


# --- training -----------------------------------------------------------------------------------------------


def test_frozen_and_unused_parameters_stay() -> None:
    module = _net()
    module.unused = nn.Parameter(torch.ones(2))
    module.get_parameter("0.weight").requires_grad_(False)
    before = copy.deepcopy(module.state_dict())
    _train(module, _part(*_blobs()), _options())
    after = module.state_dict()
    assert torch.equal(after["0.weight"], before["0.weight"])
    assert torch.equal(after["unused"], before["unused"])
    assert not torch.equal(after["0.bias"], before["0.bias"])


def test_training_learns_and_returns_the_last_epochs_loss() -> None:
    part, module = _part(*_blobs()), _net()
    steps, first = _train(module, part, _options())
    later_steps, later = _train(module, part, _options(epochs=20), seed=1)
    assert later < 0.1 < first
    assert (steps, later_steps) == (2, 40)
    metrics = training.evaluate(module, _part(*_blobs(90, seed=5)), OBJECTIVE).metrics
    assert metrics["accuracy"] > 0.94
    assert metrics["loss"] < 0.2


def test_only_the_parts_rows_are_trained_on() -> None:
    x, y = _blobs()
    spoiled = x.clone()
    spoiled[30:] = float("nan")
    results = []
    for inputs in (x, spoiled):
        module = _net()
        _train(module, _part(inputs, y, torch.arange(30)), _options(batch_size=8, epochs=2), seed=3)
        results.append(module.state_dict())
    assert all(torch.equal(results[0][name], results[1][name]) for name in results[0])


def _as_bytes(x: Tensor) -> tuple[Tensor, Scaling]:
    """Return clouds of points as bytes, a channel a coordinate, and what makes points of them again."""
    pixels = ((x + 10) * 12.75).round().to(torch.uint8).reshape(-1, 2, 1, 1)
    return pixels, Scaling(torch.full((2, 1, 1), 1 / 12.75), torch.full((2, 1, 1), -10.0))


def test_bytes_are_trained_on_and_evaluated_as_what_they_are_scaled_to() -> None:
    x, y = _blobs()
    pixels, scaling = _as_bytes(x)
    kept = pixels.clone()
    results = []
    for part in (_part(pixels, y, scaling=scaling), _part(scaling(pixels), y)):
        module = nn.Sequential(nn.Flatten(), _net())
        loss = _train(module, part, _options(batch_size=8, epochs=2), seed=3)
        results.append((loss, training.evaluate(module, part, OBJECTIVE)))
    assert results[0] == results[1]
    assert torch.equal(pixels, kept)


def _trained(seed: int, state_before: int = 0) -> Tensor:
    module = nn.Sequential(nn.Linear(2, 8), nn.Dropout(0.5), nn.Linear(8, 3))
    module.load_state_dict(_net().state_dict())
    torch.manual_seed(state_before)
    _train(module, _part(*_blobs()), _options(batch_size=8), seed=seed)
    return module.get_parameter("0.weight").detach()


def test_the_seed_alone_decides_order_and_dropout() -> None:
    assert torch.equal(_trained(1, state_before=5), _trained(1, state_before=6))
    assert not torch.equal(_trained(1), _trained(2))


@pytest.mark.parametrize(("changes", "total"), [({"epochs": 2}, 8), ({"steps": 6}, 6), ({"steps": 3}, 3)])
def test_progress_counts_the_batches_of_all_epochs(changes: dict[str, int], total: int) -> None:
    x, y = _blobs()
    seen: list[tuple[int, int]] = []
    training.train(
        _net(),
        _part(x, y, torch.arange(50)),
        OBJECTIVE,
        _options(batch_size=16, **changes),
        seed=0,
        after_batch=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(done, total) for done in range(1, total + 1)]


@pytest.mark.parametrize(("cut", "of_epoch"), [(1, 1), (3, 3), (4, 4), (6, 2)])
def test_a_training_that_is_cut_has_done_its_first_steps(cut: int, of_epoch: int) -> None:
    part, options = _part(*_blobs()), _options(batch_size=16, epochs=3)
    whole, short = _net(), _net()
    calls = iter(range(1, 13))
    steps, loss = _train(short, part, options, is_over=lambda: next(calls) == cut)
    losses: list[float] = []

    class Kept(Classification):
        def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
            losses.append(super().loss(outputs, targets).item() * len(targets))
            return super().loss(outputs, targets)

    kept = Kept(Agreement(("red", "green", "blue"), 60))
    same = _options(batch_size=16, steps=cut)
    assert training.train(whole, part, kept, same, seed=0, after_batch=_ignore)[0] == steps == cut
    _assert_equal(short, whole, tolerance=0)
    sizes = (training.batch_sizes(60, 16) * 3)[:cut]
    assert loss == pytest.approx(sum(losses[-of_epoch:]) / sum(sizes[-of_epoch:]), rel=1e-6)


def test_a_training_that_is_over_at_once_takes_one_step() -> None:
    part, options = _part(*_blobs()), _options(batch_size=16, epochs=3)
    assert training.planned_steps(60, options) == 12
    assert _train(_net(), part, options, is_over=lambda: True)[0] == 1
    assert _train(_net(), part, options, is_over=lambda: False) == _train(_net(), part, options)


def test_a_diverged_training_says_what_to_do() -> None:
    x, y = _blobs()
    with pytest.raises(TaskError, match="smaller --lr"):
        _train(_net(), _part(x * 1e20, y), _options(learning_rate=1e6, epochs=3))


# --- options, against the same in plain torch ---------------------------------------------------------------


def _plain(module: nn.Module, optimizer: torch.optim.Optimizer, sizes: list[int], clip: float = 0.0) -> None:
    """Train on the clouds in batches of *sizes*, which may be several epochs; the order is that of `train`."""
    x, y = _blobs()
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(60, generator=generator)
    while len(order) < sum(sizes):
        order = torch.cat([order, torch.randperm(60, generator=generator)])
    for rows in torch.split(order[: sum(sizes)], sizes):
        optimizer.zero_grad()
        functional.cross_entropy(module(x[rows]), y[rows]).backward()  # type: ignore[no-untyped-call]  # torch has no types for it
        if clip:
            norm = torch.stack([p.grad.square().sum() for p in module.parameters() if p.grad is not None])
            for parameter in module.parameters():
                assert parameter.grad is not None
                parameter.grad *= min(1.0, clip / (norm.sum().sqrt().item() + 1e-6))
        optimizer.step()


def test_steps_are_that_many_batches_of_epoch_after_epoch() -> None:
    mine, theirs = _net(), _net()
    steps, loss = _train(mine, _part(*_blobs()), _options(steps=4, batch_size=25, epochs=50))
    _plain(theirs, torch.optim.SGD(theirs.parameters(), 0.05, 0.9), [25, 25, 10, 25])
    _assert_equal(mine, theirs)
    assert steps == 4
    assert 0 < loss < 2


def test_the_loss_is_the_mean_over_the_examples_of_as_many_steps_as_an_epoch_has() -> None:
    class Rising(Classification):
        """The loss of the n-th batch is n, however the model is."""

        batches = 0

        def loss(self, outputs: Tensor, targets: Tensor, /) -> Tensor:
            self.batches += 1
            return outputs.sum() * 0 + self.batches

    part = _part(*_blobs())
    for changes, expected in (
        ({"epochs": 2}, (4 * 25 + 5 * 25 + 6 * 10) / 60),
        ({"steps": 4}, (2 * 25 + 3 * 10 + 4 * 25) / 60),
        ({"steps": 2}, 1.5),
    ):
        options = _options(batch_size=25, **changes)
        rising = Rising(Agreement(("a", "b", "c"), 60))
        _, loss = training.train(_net(), part, rising, options, seed=0, after_batch=_ignore)
        assert loss == pytest.approx(expected)


def test_clipping_bounds_the_norm_of_the_whole_gradient() -> None:
    mine, theirs, free = _net(), _net(), _net()
    _train(mine, _part(*_blobs()), _options(clip=0.05, batch_size=30, learning_rate=1.0))
    _plain(theirs, torch.optim.SGD(theirs.parameters(), 1.0, 0.9), [30, 30], clip=0.05)
    _assert_equal(mine, theirs)
    _plain(free, torch.optim.SGD(free.parameters(), 1.0, 0.9), [30, 30])
    assert not torch.allclose(mine.get_parameter("0.weight"), free.get_parameter("0.weight"), atol=1e-3)


def test_an_optimizer_of_ones_own_gets_the_parameters_that_train_and_the_options() -> None:
    given: list[Any] = []

    def adagrad(parameters: list[nn.Parameter], options: LocalTraining) -> Any:
        given.extend((len(parameters), options.learning_rate))
        return torch.optim.Adagrad(parameters, options.learning_rate)

    mine, theirs = _net(), _net()
    for module in (mine, theirs):
        module.get_parameter("0.weight").requires_grad_(False)
    _train(mine, _part(*_blobs()), _options(batch_size=30), make_optimizer=adagrad)
    _plain(theirs, torch.optim.Adagrad(theirs.parameters(), 0.05), [30, 30])
    _assert_equal(mine, theirs)
    assert given == [3, 0.05]


class _Recording(nn.Module):
    """Records the type of its outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.net = _net()
        self.types: list[torch.dtype] = []

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.net(x)
        self.types.append(outputs.dtype)
        return outputs


@pytest.mark.parametrize("short", [torch.bfloat16, torch.float16, None])
def test_mixed_precision_computes_in_16_bits_and_keeps_parameters_in_32(
    short: torch.dtype | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "choose_precision", lambda device, wish: Precision(device.type, short))
    mine, theirs = _Recording(), _net()
    _train(mine, _part(*_blobs()), _options(batch_size=30, clip=1.0))
    _plain(theirs, torch.optim.SGD(theirs.parameters(), 0.05, 0.9), [30, 30], clip=1.0)
    assert mine.types == [short or torch.float32] * 2
    assert {parameter.dtype for parameter in mine.parameters()} == {torch.float32}
    _assert_equal(mine.net, theirs, tolerance=1e-6 if short is None else 2e-3)
    training.evaluate(mine, _part(*_blobs()), OBJECTIVE)
    assert mine.types[-1] == torch.float32


def test_the_wish_for_a_precision_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []

    def choose(device: torch.device, wish: str) -> Precision:
        asked.append((str(device), wish))
        return Precision("cpu", None)

    monkeypatch.setattr(training, "choose_precision", choose)
    _train(_net(), _part(*_blobs()), _options(precision="mixed"))
    assert asked == [("cpu", "mixed")]


def test_a_step_whose_scaled_gradient_overflows_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    precision = Precision("cpu", torch.float16)
    assert precision.scaler is not None
    precision.scaler = torch.amp.GradScaler("cpu", 2.0**120)
    monkeypatch.setattr(training, "choose_precision", lambda device, wish: precision)
    module = _net()
    _train(module, _part(*_blobs()), _options(steps=1))
    _assert_equal(module, _net(), tolerance=0)
    assert all(parameter.grad is None for parameter in module.parameters())


class _Adding:
    """A rule that adds 1 to every gradient, and counts its steps."""

    def __init__(self) -> None:
        self.steps = 0

    def correct(self, parameters: list[nn.Parameter]) -> None:
        self.steps += 1
        for parameter in parameters:
            assert parameter.grad is not None
            parameter.grad.add_(1.0)

    def finish(self, steps: int, learning_rate: float) -> LocalEnd:
        return LocalEnd()


@pytest.mark.parametrize("short", [torch.float16, None])
def test_a_rule_changes_the_gradients_of_every_step_before_they_are_clipped(
    short: torch.dtype | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "choose_precision", lambda device, wish: Precision(device.type, short))
    module, rule = _net(), _Adding()
    _train(module, _part(*_blobs()), _options(steps=1, momentum=0.0, learning_rate=1.0, clip=1e-3), rule=rule)
    moved = torch.cat(
        [(new - old).flatten() for new, old in zip(module.parameters(), _net().parameters(), strict=True)]
    )
    assert moved.norm().item() == pytest.approx(1e-3, rel=1e-2)
    assert rule.steps == 1
    assert moved.mean().item() < -0.8 * 1e-3 / len(moved) ** 0.5, "ones outweigh the gradients of the loss"


def test_a_rule_sees_no_step_that_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    precision, rule = Precision("cpu", torch.float16), _Adding()
    precision.scaler = torch.amp.GradScaler("cpu", 2.0**120)
    monkeypatch.setattr(training, "choose_precision", lambda device, wish: precision)
    _train(_net(), _part(*_blobs()), _options(steps=1), rule=rule)
    assert rule.steps == 0


def test_dict_tuple_and_tensor_inputs_train_and_evaluate_alike() -> None:
    @dataclass
    class Shaped:
        """The clouds, in inputs of another form."""

        part: TensorBatches
        form: Any
        labels: None = None
        examples: int = 60

        def shuffled(self, sizes: list[int], generator: torch.Generator) -> Iterator[Batch]:
            return ((self.form(x), y, n) for x, y, n in self.part.shuffled(sizes, generator))

        def ordered(self, size: int) -> Iterator[Batch]:
            return ((self.form(x), y, n) for x, y, n in self.part.ordered(size))

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = _net()

        def forward(self, left: Tensor, right: Tensor | None = None) -> Any:
            return self.net(left if right is None else torch.cat([left, right], 1))

    results = []
    for form in (
        lambda x: x,
        lambda x: (x[:, :1], x[:, 1:]),
        lambda x: [x[:, :1], x[:, 1:]],
        lambda x: {"right": x[:, 1:], "left": x[:, :1]},
    ):
        module, part = Two(), Shaped(_part(*_blobs()), form)
        results.append((_train(module, part, _options()), training.evaluate(module, part, OBJECTIVE)))
    assert results == [results[0]] * 4


# --- evaluation ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("samples", "batch_size", "sizes"),
    [(10, 4, [4, 4, 2]), (8, 4, [4, 4]), (9, 4, [4, 5]), (3, 4, [3]), (1, 4, [1]), (3, 1, [1, 1, 1])],
)
def test_batches_cover_all_examples_and_none_is_a_lone_rest(
    samples: int, batch_size: int, sizes: list[int]
) -> None:
    assert training.batch_sizes(samples, batch_size) == sizes


def test_evaluation_sums_over_its_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = _blobs()
    module = _net()
    whole = training.evaluate(module, _part(x, y), OBJECTIVE)
    monkeypatch.setattr(training, "EVALUATION_BATCH", 7)
    parts = training.evaluate(module, _part(x, y), OBJECTIVE)
    outputs = module(x).detach()
    right = outputs.argmax(1) == y
    assert parts.sums["accuracy"] == whole.sums["accuracy"] == int(right.sum())
    assert parts.sums["loss"] == pytest.approx(whole.sums["loss"], rel=1e-5)
    assert whole.sums["loss"] == pytest.approx(float(functional.cross_entropy(outputs, y)) * 60, rel=1e-5)
    assert list(parts.sums) == sorted(parts.sums) == ["accuracy", "loss"]
    assert parts.examples == 60
    assert parts.classes == tuple(
        ClassCount(int((right & (y == label)).sum()), 20, int((outputs.argmax(1) == label).sum()))
        for label in range(3)
    )


def test_dropout_is_off_in_an_evaluation() -> None:
    module = nn.Sequential(nn.Dropout(0.9), _net())
    module.train()
    part = _part(*_blobs())
    assert training.evaluate(module, part, OBJECTIVE) == training.evaluate(_net(), part, OBJECTIVE)


def test_a_boundless_loss_is_a_number_all_the_same() -> None:
    x, y = _blobs()
    sums = training.evaluate(_net(), _part(x * math.inf, y), OBJECTIVE).sums
    assert sums["loss"] == training.NON_FINITE


# --- devices and seeds --------------------------------------------------------------------------------------


def test_a_device_there_is_not_is_refused() -> None:
    with pytest.raises(TaskError, match=r"'abacus' cannot be used here.*--device auto or cpu"):
        training.choose_device("abacus")


@pytest.mark.parametrize(
    ("cuda", "mps", "chosen"), [(True, True, "cuda:0"), (False, True, "mps"), (False, False, "cpu")]
)
def test_auto_prefers_cuda_then_mps(
    monkeypatch: pytest.MonkeyPatch, cuda: bool, mps: bool, chosen: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert str(training.choose_device("auto")) == chosen


def test_the_cpu_is_called_cpu() -> None:
    assert training.describe_device(training.choose_device("cpu")) == "cpu"


def test_derived_seeds_are_the_same_on_every_machine() -> None:
    assert training.derive_seed("train", 7, 1, 0) == 4821660661293645759
    assert len({training.derive_seed("train", 7, r, p) for r in range(10) for p in range(10)}) == 100
