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
from p2pfl.learning.strategies.integers import MAX_WEIGHT
from p2pfl.schema import TensorSpec, layout_of
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
            sums.append([total.shape[1] for total in running._sums])
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


@pytest.mark.parametrize("together", [1, 4])
@pytest.mark.parametrize(
    ("dtype", "bits"),
    [
        ("I64", [0x1234567890ABCDEF, 2**63 - 1, -(2**63), -1]),
        ("U64", [0x1234567890ABCDEF, 2**63 - 1, -1, -2]),
        ("I32", [2**31 - 1, -(2**31), 0, 16777217]),
        ("F64", [0x3FB999999999999A, -(2**63), 0x7FEFFFFFFFFFFFFF, 1]),
        ("F32", [0x3DCCCCCD, -(2**31), 0x7F7FFFFF, 1]),
        ("F16", [0x2E66, -(2**15), 0x7BFF, 1]),
        ("BF16", [0x3DCD, -(2**15), 0x7F7F, 1]),
        ("BOOL", [0, 1, 1, 0]),
    ],
)
def test_what_is_equal_in_all_updates_stays_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str, bits: list[int], together: int
) -> None:
    monkeypatch.setattr(fedavg, "TOGETHER", together)
    path = _write_bits(tmp_path / "u", dtype, bits)
    with closing(FedAvg()) as running:
        for weight in (3, 7, 1_000_003):
            running.fold(path, weight)
        running.average(tmp_path / "mean")
    assert (tmp_path / "mean").read_bytes() == path.read_bytes()


def _write_bits(path: Path, dtype: str, bits: list[int]) -> Path:
    kind = weights.TORCH_DTYPES[dtype]
    whole = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[kind.itemsize]
    tensor = torch.tensor(bits, dtype=torch.int64).to(whole).view(kind)
    weights.write(path, (TensorSpec("w", dtype, (len(bits),)),), [tensor])
    return path


MASKS = [
    ("F64", [-(2**52), 0x7FF0000000000000, 0x7FF8000000000123, 0x7FF0000000000001]),
    ("F32", [-(2**23), 0x7F800000, 0x7FC00123, 0x7F800001]),
    ("F16", [-(2**10), 0x7C00, 0x7E12, 0x7C01]),
    ("BF16", [-(2**7), 0x7F80, 0x7FC1, 0x7F81]),
]
"""Infinities, a quiet and a signalling NaN with a payload."""


@pytest.mark.parametrize("together", [1, 4])
@pytest.mark.parametrize(("dtype", "bits"), MASKS)
def test_what_is_not_finite_in_the_parent_stays_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str, bits: list[int], together: int
) -> None:
    monkeypatch.setattr(fedavg, "TOGETHER", together)
    monkeypatch.setattr(fedavg, "PIECE_ELEMENTS", 3)
    parent = _write_bits(tmp_path / "u", dtype, [0, 0, *bits])
    with closing(FedAvg()) as running:
        for weight in (3, 7):
            running.fold(parent, weight)
        running.average(tmp_path / "mean", (tmp_path / "moved", parent))
    assert (tmp_path / "mean").read_bytes() == parent.read_bytes()


def test_a_mean_that_is_not_finite_where_the_parent_is_makes_none(tmp_path: Path) -> None:
    parent = _write(tmp_path / "parent", "F32", [float("inf"), 1.0])
    update = _write(tmp_path / "u", "F32", [float("inf"), float("inf")])
    with closing(FedAvg()) as running:
        running.fold(update, 1)
        assert running.average(tmp_path / "mean", (parent,)) is None
    assert not (tmp_path / "mean").exists()


def test_more_samples_than_integers_can_be_averaged_by_are_refused(tmp_path: Path) -> None:
    path = _write(tmp_path / "u", "I64", [5])
    with closing(FedAvg()) as running:
        running.fold(path, MAX_WEIGHT - 1)
        with pytest.raises(BlobError, match="integers can be averaged over"):
            running.fold(path, 2)
        running.fold(path, 1)
        running.average(tmp_path / "mean")
    assert load_file(tmp_path / "mean")["w"].tolist() == [5]


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
    check_blob(tmp_path / "mean", layout_of(weights.schema_of(modules[0])))
    one, two = (dict(module.named_buffers()) for module in modules)
    mean = MODELS["resnet18"](shape, 10)
    weights.load_into(tmp_path / "mean", mean)
    found = dict(mean.named_buffers())
    assert found["bn1.num_batches_tracked"].item() == 4, "3.75 rounded"
    assert found["bn1.num_batches_tracked"].dtype == torch.int64
    for name in ("bn1.running_mean", "layer4.1.bn2.running_var"):
        assert torch.allclose(found[name], 0.75 * one[name] + 0.25 * two[name], rtol=1e-5, atol=1e-6)
    assert mean.eval()(torch.randn(2, *shape)).isfinite().all()
