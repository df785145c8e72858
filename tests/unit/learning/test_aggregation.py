from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from p2pfl.errors import BlobError
from p2pfl.learning import aggregation, weights
from p2pfl.learning.aggregation import aggregate
from p2pfl.learning.models import MODELS, ImageShape
from p2pfl.learning.strategies.elementwise import Elementwise, UpdatePieces
from p2pfl.learning.strategies.integers import MAX_WEIGHT
from p2pfl.schema import Schema, TensorSpec, layout_of
from p2pfl.spec import RunSpec
from p2pfl.store.check import check_blob
from p2pfl.work import (
    AggregatedModel,
    AggregationJob,
    AggregationResult,
    NotFinite,
    UnreadableUpdate,
    WeightedUpdate,
)
from tests.support.core import ballot
from tests.support.learning import SPEC, Mixed, make_spec
from tests.support.trainers import script_spec

MEAN = "mean"


def _aggregate(folder: Path, updates: list[tuple[str, int]], *, parent: str = "parent") -> AggregationResult:
    """Aggregate files of *folder*, named instead of digests, into its file `MEAN`."""
    weighted = tuple(WeightedUpdate(name, examples) for name, examples in updates)
    job = AggregationJob("run", 1, ballot(1, "ada"), SPEC, parent, weighted)
    return aggregate(job, folder, folder / MEAN)


def _write(path: Path, dtype: str, values: list[float]) -> Path:
    tensor = torch.tensor(values, dtype=torch.float64).to(weights.TORCH_DTYPES[dtype])
    weights.write(path, (TensorSpec("w", dtype, (len(values),)),), [tensor])
    return path


def _mean_of(tmp_path: Path, dtype: str, updates: list[tuple[list[float], int]]) -> list[float] | None:
    """Return the aggregate of *updates*, None where it is not finite; the parent is all zeros."""
    _write(tmp_path / "parent", dtype, [0.0] * len(updates[0][0]))
    names = []
    for number, (values, examples) in enumerate(updates):
        _write(tmp_path / f"u{number}", dtype, values)
        names.append((f"u{number}", examples))
    result = _aggregate(tmp_path, names)
    if not isinstance(result, AggregatedModel):
        assert result == NotFinite()
        return None
    return list(load_file(tmp_path / MEAN)["w"].to(torch.float64).tolist())


def _weighted(paths: list[Path], examples: list[int]) -> dict[str, torch.Tensor]:
    """Return the mean of the files *paths*, computed tensor by tensor."""
    updates = [load_file(path) for path in paths]
    mean = {}
    for name, value in updates[0].items():
        total = sum(update[name].double() * count for update, count in zip(updates, examples, strict=True))
        assert isinstance(total, torch.Tensor)
        exact = total / sum(examples)
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
    _aggregate(tmp_path, [("a", 30), ("b", 10)])
    mean = load_file(tmp_path / MEAN)
    for name, value in first.state_dict().items():
        by_hand = 0.75 * value.double() + 0.25 * second.state_dict()[name].double()
        assert torch.allclose(mean[name].double(), by_hand, rtol=0, atol=1e-6)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_every_tensor_of_a_model_is_the_mean_by_examples(tmp_path: Path, count: int) -> None:
    examples = [100 + 37 * number for number in range(count)]
    paths = [tmp_path / f"u{number}" for number in range(count)]
    for number, path in enumerate(paths):
        weights.save(path, Mixed(seed=number))
    _aggregate(tmp_path, [(path.name, one) for path, one in zip(paths, examples, strict=True)])
    by_hand, mean = _weighted(paths, examples), load_file(tmp_path / MEAN)
    assert [name for name, value in by_hand.items() if not torch.equal(mean[name], value)] == []


def test_how_long_pieces_are_changes_no_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        weights.save(tmp_path / f"u{number}", Mixed(seed=number))
    updates = [(f"u{number}", 10 + number) for number in range(3)]
    whole = _aggregate(tmp_path, updates)
    monkeypatch.setattr(aggregation, "PIECE_ELEMENTS", 3)
    assert isinstance(whole, AggregatedModel)
    assert _aggregate(tmp_path, updates) == whole


def test_a_tensor_longer_than_a_piece_is_averaged_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aggregation, "PIECE_ELEMENTS", 2)
    assert _mean_of(tmp_path, "F32", [([1, 2, 3, 4, 5], 1), ([3, 4, 5, 6, 7], 1)]) == [2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    "dtype", ["F64", "F32", "F16", "BF16", "I64", "U64", "I32", "U32", "I16", "U16", "I8", "U8"]
)
def test_every_number_type_is_weighted_by_examples(tmp_path: Path, dtype: str) -> None:
    assert _mean_of(tmp_path, dtype, [([8, 0], 3), ([4, 100], 1)]) == [7, 25]


def test_an_update_that_is_cut_short_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("u0", "u1"):
        _write(tmp_path / name, "F32", [1, 2])

    def cut_and_write(path: Path, schema: Schema) -> weights.ModelWriter:
        os.truncate(tmp_path / "u1", (tmp_path / "u1").stat().st_size - 4)  # after it was opened
        return weights.ModelWriter(path, schema)

    monkeypatch.setattr(aggregation, "ModelWriter", cut_and_write)
    result = _aggregate(tmp_path, [("u0", 1), ("u1", 1)])
    assert isinstance(result, UnreadableUpdate)
    assert result.digest == "u1"
    assert "u1 ends inside w F32" in result.reason
    assert not (tmp_path / MEAN).exists()


def test_an_update_that_is_missing_is_named(tmp_path: Path) -> None:
    _write(tmp_path / "u0", "F32", [1, 2])
    result = _aggregate(tmp_path, [("u0", 1), ("gone", 1)])
    assert isinstance(result, UnreadableUpdate)
    assert result.digest == "gone"
    assert "cannot be opened" in result.reason


def test_integers_are_rounded(tmp_path: Path) -> None:
    assert _mean_of(tmp_path, "I64", [([10, 10], 2), ([11, 12], 1)]) == [10, 11]


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
def test_what_is_equal_in_all_updates_stays_bit_for_bit(tmp_path: Path, dtype: str, bits: list[int]) -> None:
    path = _write_bits(tmp_path / "u", dtype, bits)
    _aggregate(tmp_path, [("u", 3), ("u", 7), ("u", 1_000_003)])
    assert (tmp_path / MEAN).read_bytes() == path.read_bytes()


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


@pytest.mark.parametrize(("dtype", "bits"), MASKS)
def test_what_is_not_finite_in_the_parent_stays_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str, bits: list[int]
) -> None:
    monkeypatch.setattr(aggregation, "PIECE_ELEMENTS", 3)
    parent = _write_bits(tmp_path / "u", dtype, [0, 0, *bits])
    _aggregate(tmp_path, [("u", 3), ("u", 7)], parent="u")
    assert (tmp_path / MEAN).read_bytes() == parent.read_bytes()


def test_a_mean_that_is_not_finite_where_the_parent_is_makes_none(tmp_path: Path) -> None:
    _write(tmp_path / "parent", "F32", [float("inf"), 1.0])
    _write(tmp_path / "u", "F32", [float("inf"), float("inf")])
    assert _aggregate(tmp_path, [("u", 1)]) == NotFinite()
    assert not (tmp_path / MEAN).exists()


def test_a_parent_that_cannot_be_read_where_it_is_needed_fails_the_job(tmp_path: Path) -> None:
    _write(tmp_path / "u", "F32", [float("inf")])
    with pytest.raises(BlobError, match="parent cannot be opened"):
        _aggregate(tmp_path, [("u", 1)])


def test_more_examples_than_integers_can_be_averaged_by_are_refused(tmp_path: Path) -> None:
    _write(tmp_path / "u", "I64", [5])
    with pytest.raises(BlobError, match="a model with integers can be averaged over"):
        _aggregate(tmp_path, [("u", MAX_WEIGHT - 1), ("u", 2)])
    _aggregate(tmp_path, [("u", MAX_WEIGHT - 1), ("u", 1)])
    assert load_file(tmp_path / MEAN)["w"].tolist() == [5]


def test_booleans_follow_the_majority_of_examples(tmp_path: Path) -> None:
    assert _mean_of(tmp_path, "BOOL", [([1, 0], 1), ([1, 0], 1), ([0, 1], 3)]) == [0, 1]


def test_large_sums_of_finite_updates_stay_finite(tmp_path: Path) -> None:
    assert _mean_of(tmp_path, "F32", [([3e38], 2**53), ([3e38], 2**53)]) == pytest.approx([3e38])


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_an_average_that_is_not_finite_is_none_and_leaves_no_file(tmp_path: Path, bad: float) -> None:
    assert _mean_of(tmp_path, "F32", [([1.0, 2.0], 1), ([1.0, bad], 1)]) is None
    assert not (tmp_path / MEAN).exists()


def test_an_update_of_another_shape_is_named(tmp_path: Path) -> None:
    _write(tmp_path / "a", "F32", [1, 2])
    _write(tmp_path / "b", "F32", [1, 2, 3])
    result = _aggregate(tmp_path, [("a", 1), ("b", 5)])
    assert isinstance(result, UnreadableUpdate)
    assert result.digest == "b"
    assert "does not fit the other updates" in result.reason


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
    _aggregate(tmp_path, [("u1", 30), ("u2", 10)])
    check_blob(tmp_path / MEAN, layout_of(weights.schema_of(modules[0])))
    one, two = (dict(module.named_buffers()) for module in modules)
    mean = MODELS["resnet18"](shape, 10)
    weights.load_into(tmp_path / MEAN, mean)
    found = dict(mean.named_buffers())
    assert found["bn1.num_batches_tracked"].item() == 4, "3.75 rounded"
    assert found["bn1.num_batches_tracked"].dtype == torch.int64
    for name in ("bn1.running_mean", "layer4.1.bn2.running_var"):
        assert torch.allclose(found[name], 0.75 * one[name] + 0.25 * two[name], rtol=1e-5, atol=1e-6)
    assert mean.eval()(torch.randn(2, *shape)).isfinite().all()


# --- other strategies --------------------------------------------------------------------------------------------


class Median(Elementwise):
    """Looks at all updates at once."""

    needs_parent: ClassVar[bool] = False

    def combine(
        self, parent: Tensor, updates: UpdatePieces, weights: Tensor, state: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        assert len(parent) == 0
        assert torch.equal(updates.matrix(), updates.matrix())
        return updates.matrix().median(dim=0).values, state


class HalfWay(Elementwise):
    """Goes from the parent half of the way to the last update."""

    def combine(
        self, parent: Tensor, updates: UpdatePieces, weights: Tensor, state: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        *_, last = updates
        return (parent + last) / 2, state


class Careless(Elementwise):
    """Does not look at the updates."""

    def combine(
        self, parent: Tensor, updates: UpdatePieces, weights: Tensor, state: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        return parent, state


class Greedy(Elementwise):
    """Goes through the updates twice."""

    def combine(
        self, parent: Tensor, updates: UpdatePieces, weights: Tensor, state: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        return max(updates, key=lambda piece: float(piece.sum())) + sum(updates), state


@pytest.mark.parametrize(
    ("strategy", "expected"), [(Median(), [3.0, 30.0, 300.0]), (HalfWay(), [4.5, 45.0, 450.0])]
)
@pytest.mark.parametrize("dtype", ["F32", "F64"])
def test_a_strategy_may_look_at_the_parent_and_at_all_updates_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, strategy: Elementwise, expected: list[float], dtype: str
) -> None:
    monkeypatch.setattr(aggregation, "strategy_of", lambda _: strategy)
    monkeypatch.setattr(aggregation, "PIECE_ELEMENTS", 2)
    for name, scale in (("parent", 2.0), ("a", 1.0), ("b", 3.0), ("c", 7.0)):
        _write(tmp_path / name, dtype, [scale, 10 * scale, 100 * scale])
    _aggregate(tmp_path, [("a", 1), ("b", 1), ("c", 1)])
    assert load_file(tmp_path / MEAN)["w"].tolist() == expected


@pytest.mark.parametrize(
    ("strategy", "fault"), [(Careless(), "must read all updates"), (Greedy(), "iterated over once")]
)
def test_a_strategy_that_reads_the_updates_otherwise_than_once_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, strategy: Elementwise, fault: str
) -> None:
    monkeypatch.setattr(aggregation, "strategy_of", lambda _: strategy)
    for name in ("parent", "a", "b"):
        _write(tmp_path / name, "F32", [1.0])
    with pytest.raises(RuntimeError, match=fault):
        _aggregate(tmp_path, [("a", 1), ("b", 1)])


def test_a_strategy_that_averages_buffers_leaves_an_empty_one_and_those_of_integers_as_ever(
    tmp_path: Path,
) -> None:
    for name, seed, steps in (("parent", 0, 0), ("a", 1, 4), ("b", 2, 8)):
        weights.save(tmp_path / name, Mixed(seed, steps))
    updates = (WeightedUpdate("a", 30), WeightedUpdate("b", 10))
    spec = make_spec(strategy="fedavgm")
    job = AggregationJob("run", 1, ballot(1, "ada"), spec, "parent", updates)
    assert isinstance(aggregate(job, tmp_path, tmp_path / MEAN, tmp_path / "state"), AggregatedModel)
    by_hand, mean = _weighted([tmp_path / "a", tmp_path / "b"], [30, 10]), load_file(tmp_path / MEAN)
    assert mean["steps"].item() == 5
    assert mean["nothing"].shape == (0, 3)
    for name, value in mean.items():
        assert torch.allclose(value, by_hand[name], rtol=1e-6)  # the first step of FedAvgM


@pytest.mark.parametrize(
    ("spec", "norm"),
    [
        (make_spec(strategy="fednova", momentum=0.5), 1 + 1.5 + 1.75),
        (make_spec(strategy="fednova", momentum=0.5, optimizer="adam"), 3.0),
        (script_spec(strategy="fednova"), 3.0),
    ],
    ids=["sgd", "adam", "script"],
)
def test_only_sgd_has_a_momentum_and_that_of_a_script_is_not_known(
    tmp_path: Path, spec: RunSpec, norm: float
) -> None:
    for name, value in (("parent", 0.0), ("a", 1.0), ("b", 0.0)):
        _write(tmp_path / name, "F32", [value])
    updates = (WeightedUpdate("a", 1, steps=3), WeightedUpdate("b", 1, steps=1))
    job = AggregationJob("run", 1, ballot(1, "ada"), spec, "parent", updates)
    aggregate(job, tmp_path, tmp_path / MEAN)
    expected = (norm + 1) / 2 * (1 / norm) / 2
    assert load_file(tmp_path / MEAN)["w"].item() == pytest.approx(expected)
