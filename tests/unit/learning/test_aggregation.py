from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from p2pfl.errors import BlobError, TaskError
from p2pfl.learning import aggregation, weights
from p2pfl.learning.aggregation import aggregate
from p2pfl.learning.models import MODELS, ImageShape
from p2pfl.learning.strategies.integers import MAX_WEIGHT
from p2pfl.learning.strategies.registry import strategy_of
from p2pfl.schema import TensorSpec, layout_of
from p2pfl.spec import RunSpec, slot_schema
from p2pfl.store.check import check_blob
from p2pfl.work import AggregatedModel, AggregationJob, UnreadableUpdate, WeightedUpdate
from tests.support.aggregating import MEAN, STATE, aggregate_files, mean_of_numbers, write_numbers
from tests.support.core import ballot
from tests.support.learning import Mixed, make_spec
from tests.support.trainers import script_spec
from tests.support.whole_updates import combined


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
    aggregate_files(tmp_path, [("a", 30), ("b", 10)])
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
    aggregate_files(tmp_path, [(path.name, one) for path, one in zip(paths, examples, strict=True)])
    by_hand, mean = _weighted(paths, examples), load_file(tmp_path / MEAN)
    assert [name for name, value in by_hand.items() if not torch.equal(mean[name], value)] == []


def test_how_long_pieces_are_changes_no_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        weights.save(tmp_path / f"u{number}", Mixed(seed=number))
    updates = [(f"u{number}", 10 + number) for number in range(3)]
    whole = aggregate_files(tmp_path, updates)
    monkeypatch.setattr(aggregation, "PIECE_ELEMENTS", 3)
    assert isinstance(whole, AggregatedModel)
    assert aggregate_files(tmp_path, updates) == whole


def test_a_tensor_longer_than_a_piece_is_averaged_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aggregation, "PIECE_ELEMENTS", 2)
    assert mean_of_numbers(tmp_path, "F32", [([1, 2, 3, 4, 5], 1), ([3, 4, 5, 6, 7], 1)]) == [2, 3, 4, 5, 6]


MASKS = [
    ("F64", [-(2**52), 0x7FF0000000000000, 0x7FF8000000000123, 0x7FF0000000000001]),
    ("F32", [-(2**23), 0x7F800000, 0x7FC00123, 0x7F800001]),
    ("F16", [-(2**10), 0x7C00, 0x7E12, 0x7C01]),
    ("BF16", [-(2**7), 0x7F80, 0x7FC1, 0x7F81]),
]
"""Infinities, a quiet and a signalling NaN with a payload."""


def test_more_examples_than_integers_can_be_averaged_by_are_refused(tmp_path: Path) -> None:
    write_numbers(tmp_path / "u", "I64", [5])
    with pytest.raises(BlobError, match="a model with integers can be averaged over"):
        aggregate_files(tmp_path, [("u", MAX_WEIGHT - 1), ("u", 2)])
    aggregate_files(tmp_path, [("u", MAX_WEIGHT - 1), ("u", 1)])
    assert load_file(tmp_path / MEAN)["w"].tolist() == [5]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_an_average_that_is_not_finite_is_none_and_leaves_no_file(tmp_path: Path, bad: float) -> None:
    assert mean_of_numbers(tmp_path, "F32", [([1.0, 2.0], 1), ([1.0, bad], 1)]) is None
    assert not (tmp_path / MEAN).exists()


def test_an_update_of_another_shape_is_named(tmp_path: Path) -> None:
    write_numbers(tmp_path / "a", "F32", [1, 2])
    write_numbers(tmp_path / "b", "F32", [1, 2, 3])
    result = aggregate_files(tmp_path, [("a", 1), ("b", 5)])
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
    aggregate_files(tmp_path, [("u1", 30), ("u2", 10)])
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


# --- strategies with a state, and scripts ------------------------------------------------------------------


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
        write_numbers(tmp_path / name, "F32", [value])
    updates = (WeightedUpdate("a", 1, steps=3), WeightedUpdate("b", 1, steps=1))
    job = AggregationJob("run", 1, ballot(1, "ada"), spec, "parent", updates)
    aggregate(job, tmp_path, tmp_path / MEAN)
    expected = (norm + 1) / 2 * (1 / norm) / 2
    assert load_file(tmp_path / MEAN)["w"].item() == pytest.approx(expected)


# --- robust strategies --------------------------------------------------------------------------------------

ROBUST = [
    "median",
    "trimmed-mean",
    "krum",
    "multi-krum",
    "bulyan",
    "geometric-median",
    "norm-clipping",
    "centred-clipping",
]


class Sized(nn.Module):
    """Parameters of three dtypes, buffers of a float and an integer dtype, and tensors without elements."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.wide = nn.Parameter(torch.randn(5, generator=generator, dtype=torch.float64))
        self.usual = nn.Parameter(torch.randn(4, 3, generator=generator))
        self.brief = nn.Parameter(torch.randn(7, generator=generator).to(torch.bfloat16))
        self.mean: Tensor
        self.steps: Tensor
        self.register_buffer("mean", torch.full((2,), float(seed)))
        self.register_buffer("steps", torch.tensor(seed))
        self.nothing = nn.Parameter(torch.empty(0, 3, dtype=torch.float16))
        self.register_buffer("none", torch.empty(0, dtype=torch.bool))


def _flat(tensors: dict[str, Tensor]) -> Tensor:
    """Return the parameters of `Sized` in one vector of float64."""
    return torch.cat([tensors[name].double().flatten() for name in ("wide", "usual", "brief")])


@pytest.mark.parametrize("piece", [2, 32_000])
@pytest.mark.parametrize("name", ROBUST)
def test_a_robust_strategy_gives_from_files_what_it_gives_from_whole_updates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, piece: int
) -> None:
    monkeypatch.setattr(aggregation, "PIECE_ELEMENTS", piece)
    for number in range(7):
        weights.save(tmp_path / f"u{number}", Sized(number))
    weights.save(tmp_path / "parent", Sized(100))
    spec = make_spec(strategy=name)
    updates = [(f"u{number}", 10 + number) for number in range(7)]
    assert isinstance(aggregate_files(tmp_path, updates, spec=spec), AggregatedModel)
    found = load_file(tmp_path / MEAN)

    rows = torch.stack([_flat(load_file(tmp_path / one)) for one, _ in updates])
    strategy = strategy_of(spec)
    centre = torch.zeros(rows.shape[1], dtype=torch.float64) if strategy.slots else None
    expected, _ = combined(strategy, rows, _flat(load_file(tmp_path / "parent")), centre=centre)
    brief = 7  # elements of bfloat16, at the end
    assert torch.allclose(_flat(found)[:-brief], expected[:-brief], rtol=1e-6, atol=1e-7)
    assert torch.equal(found["brief"], expected[-brief:].to(torch.bfloat16))
    assert found["mean"].tolist() == [3, 3], "the median of 0 to 6, whatever the examples"
    assert found["steps"].item() == 3


def test_krum_gives_the_bytes_of_the_update_that_it_chooses(tmp_path: Path) -> None:
    values = [0.1, 1e-45, -0.0, 3e38, 5e-324, -7.25]
    for number in range(5):
        write_numbers(tmp_path / f"u{number}", "F64", [value * (1 + number**2) / 10 for value in values])
    (tmp_path / "parent").symlink_to(tmp_path / "u4")
    updates = [(f"u{number}", 10 + number) for number in range(5)]
    aggregate_files(tmp_path, updates, spec=make_spec(strategy="krum"))
    assert (tmp_path / MEAN).read_bytes() == (tmp_path / "u1").read_bytes()


def test_the_centre_of_the_clipping_is_a_state_that_the_next_round_begins_with(tmp_path: Path) -> None:
    spec = make_spec(strategy="centred-clipping", strategy_arg={"radius": 1.0})
    write_numbers(tmp_path / "parent", "F32", [10.0])
    for name, value in (("a", 14.0), ("b", 10.5)):
        write_numbers(tmp_path / name, "F32", [value])
    aggregate_files(tmp_path, [("a", 1), ("b", 9)], spec=spec)
    assert load_file(tmp_path / MEAN)["w"].tolist() == [10.75]
    assert load_file(tmp_path / STATE)["0.F32"].tolist() == [[0.75]]
    layout = layout_of(slot_schema((TensorSpec("w", "F32", (1,)),), ("centre",)))
    check_blob(tmp_path / STATE, layout)

    (tmp_path / STATE).rename(tmp_path / "state")
    aggregate_files(tmp_path, [("a", 1), ("b", 9)], spec=spec, state="state")  # changes 4 and 0.5
    assert load_file(tmp_path / STATE)["0.F32"].tolist() == [[0.75 + (1 - 0.25) / 2]]


@pytest.mark.parametrize("name", ROBUST)
def test_a_mask_of_infinities_stays_with_robust_strategies(tmp_path: Path, name: str) -> None:
    mask = [float("-inf"), float("inf"), float("nan")]
    for number, path in enumerate(["parent", *(f"u{number}" for number in range(7))]):
        write_numbers(tmp_path / path, "F32", [*mask, float(number)])
    updates = [(f"u{number}", 1) for number in range(7)]
    result = aggregate_files(tmp_path, updates, spec=make_spec(strategy=name))
    assert isinstance(result, AggregatedModel)
    assert (tmp_path / MEAN).read_bytes()[-16:-4] == (tmp_path / "parent").read_bytes()[-16:-4]
    assert 1 <= load_file(tmp_path / MEAN)["w"][3] <= 7


def test_too_few_updates_for_the_strategy_fail_the_job_and_leave_no_file(tmp_path: Path) -> None:
    for name in ("parent", "a"):
        write_numbers(tmp_path / name, "F32", [1.0])
    with pytest.raises(TaskError, match="median needs at least 3 updates, and this round has 1"):
        aggregate_files(tmp_path, [("a", 1)], spec=make_spec(strategy="median"))
    assert not (tmp_path / MEAN).exists()


def test_a_claim_of_many_examples_does_not_end_a_round_with_a_robust_strategy(tmp_path: Path) -> None:
    updates = [([5.0], 2**53), ([6.0], 1), ([9.0], 1)]
    assert mean_of_numbers(tmp_path, "I64", updates, make_spec(strategy="median")) == [6]
