from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from p2pfl.errors import TaskError
from p2pfl.learning import training
from p2pfl.learning.task import Scaling
from p2pfl.learning.training import Partition, Sgd
from p2pfl.spec import metric_names
from tests.support.learning import make_spec


def _ignore(done: int, total: int) -> None:
    pass


def _blobs(samples: int = 60, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Three well separated clouds of points in the plane."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(samples) % 3
    centres = torch.tensor([[0.0, 4.0], [4.0, 0.0], [-4.0, -4.0]])
    return centres[y] + torch.randn(samples, 2, generator=generator), y


def _net(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 3))


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
def test_sgd_moves_parameters_as_torchs_own_does(momentum: float, weight_decay: float) -> None:
    x, y = _blobs()
    mine, theirs = _net(), _net()
    spec = make_spec(learning_rate=0.1, momentum=momentum, weight_decay=weight_decay).training
    own = Sgd(mine.parameters(), spec)
    torchs = torch.optim.SGD(theirs.parameters(), lr=0.1, momentum=momentum, weight_decay=weight_decay)
    for _ in range(8):
        functional.cross_entropy(mine(x), y).backward()  # type: ignore[no-untyped-call]  # torch has no types for it
        own.step()
        torchs.zero_grad()
        functional.cross_entropy(theirs(x), y).backward()  # type: ignore[no-untyped-call]  # torch has no types for it
        torchs.step()
    for one, other in zip(mine.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(one, other, rtol=0, atol=1e-6)


def test_frozen_and_unused_parameters_stay() -> None:
    x, y = _blobs()
    module = _net()
    module.unused = nn.Parameter(torch.ones(2))
    module.get_parameter("0.weight").requires_grad_(False)
    before = copy.deepcopy(module.state_dict())
    training.train(
        module, Partition(x, y, torch.arange(60)), make_spec().training, epochs=1, seed=0, after_batch=_ignore
    )
    after = module.state_dict()
    assert torch.equal(after["0.weight"], before["0.weight"])
    assert torch.equal(after["unused"], before["unused"])
    assert not torch.equal(after["0.bias"], before["0.bias"])


def test_training_learns_and_returns_the_last_epochs_loss() -> None:
    x, y = _blobs()
    module = _net()
    rows = torch.arange(60)
    steps, first = training.train(
        module, Partition(x, y, rows), make_spec().training, epochs=1, seed=0, after_batch=_ignore
    )
    later_steps, later = training.train(
        module, Partition(x, y, rows), make_spec().training, epochs=20, seed=1, after_batch=_ignore
    )
    assert later < 0.1 < first
    assert (steps, later_steps) == (2, 40)
    sums = training.evaluate(module, *_blobs(90, seed=5))
    assert sums["accuracy"] >= 85
    assert sums["loss"] / 90 < 0.2


def test_only_the_parts_rows_are_trained_on() -> None:
    x, y = _blobs()
    spoiled = x.clone()
    spoiled[30:] = float("nan")
    rows = torch.arange(30)
    results = []
    for inputs in (x, spoiled):
        module = _net()
        training.train(
            module,
            Partition(inputs, y, rows),
            make_spec(batch_size=8).training,
            epochs=2,
            seed=3,
            after_batch=_ignore,
        )
        results.append(module.state_dict())
    assert all(torch.equal(results[0][name], results[1][name]) for name in results[0])


def _as_bytes(x: Tensor) -> tuple[Tensor, Scaling]:
    """Return clouds of points as bytes, a channel a coordinate, and what makes points of them again."""
    pixels = ((x + 10) * 12.75).round().to(torch.uint8).reshape(-1, 2, 1, 1)
    return pixels, Scaling(torch.full((2, 1, 1), 1 / 12.75), torch.full((2, 1, 1), -10.0))


def test_bytes_are_trained_on_and_evaluated_as_what_they_are_scaled_to() -> None:
    x, y = _blobs()
    pixels, scaling = _as_bytes(x)
    kept, rows = pixels.clone(), torch.arange(60)
    results = []
    for part in (Partition(pixels, y, rows, scaling), Partition(scaling(pixels), y, rows)):
        module = nn.Sequential(nn.Flatten(), _net())
        loss = training.train(
            module, part, make_spec(batch_size=8).training, epochs=2, seed=3, after_batch=_ignore
        )
        results.append((loss, training.evaluate(module, part.x, y, part.scaling)))
    assert results[0] == results[1]
    assert torch.equal(pixels, kept)


def _trained(seed: int, state_before: int = 0) -> Tensor:
    x, y = _blobs()
    module = nn.Sequential(nn.Linear(2, 8), nn.Dropout(0.5), nn.Linear(8, 3))
    module.load_state_dict(_net().state_dict())
    torch.manual_seed(state_before)
    part = Partition(x, y, torch.arange(60))
    training.train(module, part, make_spec(batch_size=8).training, epochs=1, seed=seed, after_batch=_ignore)
    return module.get_parameter("0.weight").detach()


def test_the_seed_alone_decides_order_and_dropout() -> None:
    assert torch.equal(_trained(1, state_before=5), _trained(1, state_before=6))
    assert not torch.equal(_trained(1), _trained(2))


def test_progress_counts_the_batches_of_all_epochs() -> None:
    x, y = _blobs()
    seen: list[tuple[int, int]] = []
    training.train(
        _net(),
        Partition(x, y, torch.arange(50)),
        make_spec(batch_size=16).training,
        epochs=2,
        seed=0,
        after_batch=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(done, 8) for done in range(1, 9)]


def test_a_diverged_training_says_what_to_do() -> None:
    x, y = _blobs()
    with pytest.raises(TaskError, match="smaller --lr"):
        training.train(
            _net(),
            Partition(x * 1e20, y, torch.arange(60)),
            make_spec(learning_rate=1e6).training,
            epochs=3,
            seed=0,
            after_batch=_ignore,
        )


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
    whole = training.evaluate(module, x, y)
    monkeypatch.setattr(training, "EVALUATION_BATCH", 7)
    sums = training.evaluate(module, x, y)
    assert sums["accuracy"] == whole["accuracy"] == int((module(x).argmax(1) == y).sum())
    assert sums["loss"] == pytest.approx(whole["loss"], rel=1e-5)
    assert list(sums) == sorted(sums) == list(metric_names(make_spec()))


def test_a_boundless_loss_is_a_number_all_the_same() -> None:
    x, y = _blobs()
    assert training.evaluate(_net(), x * float("inf"), y)["loss"] == training.NON_FINITE_LOSS


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
