from __future__ import annotations

import itertools
import os
from contextlib import closing
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from p2pfl.errors import BlobError
from p2pfl.learning import weights
from p2pfl.learning.models import MODELS, ImageShape
from p2pfl.learning.strategies import fedavg
from p2pfl.learning.strategies.fedavg import FedAvg
from p2pfl.schema import TensorSpec
from p2pfl.store.check import check_blob
from tests.support.learning import Mixed


def _write(path: Path, dtype: str, values: list[float]) -> Path:
    tensor = torch.tensor(values, dtype=torch.float64).to(weights.TORCH_DTYPES[dtype])
    weights.write(path, (TensorSpec("w", dtype, (len(values),)),), [tensor])
    return path


def _average(tmp_path: Path, dtype: str, updates: list[tuple[list[float], int]]) -> list[float] | None:
    with closing(FedAvg()) as running:
        for number, (values, weight) in enumerate(updates):
            running.fold(_write(tmp_path / f"u{number}", dtype, values), weight)
        if running.average(tmp_path / "mean") is None:
            return None
    return list(load_file(tmp_path / "mean")["w"].to(torch.float64).tolist())


def _weighted(paths: list[Path], samples: list[int]) -> dict[str, torch.Tensor]:
    """Return the mean of the files *paths*, computed tensor by tensor."""
    updates = [load_file(path) for path in paths]
    mean = {}
    for name, value in updates[0].items():
        total = sum(update[name].double() * count for update, count in zip(updates, samples, strict=True))
        assert isinstance(total, torch.Tensor)
        exact = total / sum(samples)
        if value.dtype == torch.bool:
            mean[name] = exact >= 0.5
        else:
            mean[name] = (exact if value.dtype.is_floating_point else exact.round()).to(value.dtype)
    return mean


def test_two_updates_give_what_averaging_them_by_hand_gives(tmp_path: Path) -> None:
    first, second = nn.BatchNorm1d(6), nn.BatchNorm1d(6)
    for module, seed in ((first, 1), (second, 2)):
        torch.manual_seed(seed)
        module(torch.randn(10, 6) * 3 + 1)
        nn.init.normal_(module.weight)
    weights.save(tmp_path / "a", first)
    weights.save(tmp_path / "b", second)
    with closing(FedAvg()) as running:
        running.fold(tmp_path / "a", 30)
        running.fold(tmp_path / "b", 10)
        running.average(tmp_path / "mean")
    mean = load_file(tmp_path / "mean")
    for name, value in first.state_dict().items():
        by_hand = 0.75 * value.double() + 0.25 * second.state_dict()[name].double()
        assert torch.allclose(mean[name].double(), by_hand, rtol=0, atol=1e-6)


@pytest.mark.parametrize("together", [1, 2, 4])
def test_neither_the_order_of_arrival_nor_how_many_are_read_at_a_time_changes_a_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, together: int
) -> None:
    monkeypatch.setattr(fedavg, "TOGETHER", together)
    paths = [tmp_path / f"u{number}" for number in range(4)]
    for number, path in enumerate(paths):
        weights.save(path, Mixed(seed=number))
    by_hand = _weighted(paths, [100 + 37 * number for number in range(4)])
    for order in itertools.permutations(range(4)):
        with closing(FedAvg()) as running:
            for number in order:
                running.fold(paths[number], 100 + 37 * number)
            running.average(tmp_path / "mean")
        mean = load_file(tmp_path / "mean")
        assert [name for name, value in by_hand.items() if not torch.equal(mean[name], value)] == []


def test_a_tensor_longer_than_a_piece_is_averaged_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fedavg, "PIECE_ELEMENTS", 2)
    assert _average(tmp_path, "F32", [([1, 2, 3, 4, 5], 1), ([3, 4, 5, 6, 7], 1)]) == [2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    "dtype", ["F64", "F32", "F16", "BF16", "I64", "U64", "I32", "U32", "I16", "U16", "I8", "U8"]
)
@pytest.mark.parametrize("together", [1, 4])
def test_every_number_type_is_weighted_by_samples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str, together: int
) -> None:
    monkeypatch.setattr(fedavg, "TOGETHER", together)
    assert _average(tmp_path, dtype, [([8, 0], 3), ([4, 100], 1)]) == [7, 25]


def test_a_sum_of_the_whole_model_is_kept_only_for_more_updates_than_are_read_side_by_side(
    tmp_path: Path,
) -> None:
    path = _write(tmp_path / "u", "F32", [1, 2])
    with closing(FedAvg()) as running:
        sums = []
        for _ in range(fedavg.TOGETHER + 1):
            running.fold(path, 1)
            sums.append([len(total) for total in running._sums])
    assert sums == [[]] * fedavg.TOGETHER + [[2]]


@pytest.mark.parametrize("count", [1, fedavg.TOGETHER])
def test_an_update_that_is_cut_short_after_it_was_counted_is_noticed(tmp_path: Path, count: int) -> None:
    paths = [_write(tmp_path / f"u{number}", "F32", [1, 2]) for number in range(count + 1)]
    with closing(FedAvg()) as running:
        for path in paths[:-1]:
            running.fold(path, 1)
        os.truncate(paths[0], paths[0].stat().st_size - 4)
        with pytest.raises(BlobError, match="u0 ends inside w F32"):
            _finish(running, paths[-1], tmp_path / "mean")


def _finish(running: FedAvg, last: Path, mean: Path) -> None:
    running.fold(last, 1)
    running.average(mean)


def test_an_update_may_be_renamed_and_deleted_once_it_is_counted(tmp_path: Path) -> None:
    path = _write(tmp_path / "u", "F32", [1, 2])
    with closing(FedAvg()) as running:
        running.fold(path, 1)
        path.unlink()
        running.average(tmp_path / "mean")
    assert load_file(tmp_path / "mean")["w"].tolist() == [1, 2]


def test_integers_are_rounded(tmp_path: Path) -> None:
    assert _average(tmp_path, "I64", [([10, 10], 2), ([11, 12], 1)]) == [10, 11]


def test_booleans_follow_the_majority_of_samples(tmp_path: Path) -> None:
    assert _average(tmp_path, "BOOL", [([1, 0], 1), ([1, 0], 1), ([0, 1], 3)]) == [0, 1]


def test_large_sums_of_finite_updates_stay_finite(tmp_path: Path) -> None:
    assert _average(tmp_path, "F32", [([3e38], 2**53), ([3e38], 2**53)]) == [pytest.approx(3e38)]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_an_average_that_is_not_finite_is_none_and_leaves_no_file(tmp_path: Path, bad: float) -> None:
    assert _average(tmp_path, "F32", [([1.0, 2.0], 1), ([1.0, bad], 1)]) is None
    assert not (tmp_path / "mean").exists()


def test_an_update_of_another_shape_is_refused_and_not_counted(tmp_path: Path) -> None:
    with closing(FedAvg()) as running:
        running.fold(_write(tmp_path / "a", "F32", [1, 2]), 1)
        with pytest.raises(BlobError, match="does not fit"):
            running.fold(_write(tmp_path / "b", "F32", [1, 2, 3]), 5)
        running.average(tmp_path / "mean")
    assert load_file(tmp_path / "mean")["w"].tolist() == [1, 2]
    assert running.folds == 1


def test_batch_normalisation_is_averaged_with_its_statistics_and_its_count(tmp_path: Path) -> None:
    shape = ImageShape(1, 8, 8)
    modules = []
    for seed, batches in ((1, 3), (2, 6)):
        torch.manual_seed(seed)
        module = MODELS["resnet18"](shape, 10)
        for _ in range(batches):
            module(torch.randn(2, *shape) * seed)
        weights.save(tmp_path / f"u{seed}", module)
        modules.append(module)
    with closing(FedAvg()) as running:
        running.fold(tmp_path / "u1", 30)
        running.fold(tmp_path / "u2", 10)
        running.average(tmp_path / "mean")
    check_blob(tmp_path / "mean", weights.schema_of(modules[0]))
    one, two = (dict(module.named_buffers()) for module in modules)
    mean = MODELS["resnet18"](shape, 10)
    weights.load_into(tmp_path / "mean", mean)
    found = dict(mean.named_buffers())
    assert found["bn1.num_batches_tracked"].item() == 4, "3.75 rounded"
    assert found["bn1.num_batches_tracked"].dtype == torch.int64
    for name in ("bn1.running_mean", "layer4.1.bn2.running_var"):
        assert torch.allclose(found[name], 0.75 * one[name] + 0.25 * two[name], rtol=1e-5, atol=1e-6)
    assert mean.eval()(torch.randn(2, *shape)).isfinite().all()
