from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from p2pfl.learning import aggregation
from p2pfl.learning.strategies.elementwise import Elementwise, UpdatePieces
from p2pfl.work import NotFinite
from tests.support.aggregating import MEAN, aggregate_files, mean_of_numbers, write_bits, write_numbers
from tests.support.learning import make_spec

MASKS = [
    ("F64", [-(2**52), 0x7FF0000000000000, 0x7FF8000000000123, 0x7FF0000000000001]),
    ("F32", [-(2**23), 0x7F800000, 0x7FC00123, 0x7F800001]),
    ("F16", [-(2**10), 0x7C00, 0x7E12, 0x7C01]),
    ("BF16", [-(2**7), 0x7F80, 0x7FC1, 0x7F81]),
]
"""Infinities, a quiet and a signalling NaN with a payload."""


def test_integers_are_rounded(tmp_path: Path) -> None:
    assert mean_of_numbers(tmp_path, "I64", [([10, 10], 2), ([11, 12], 1)]) == [10, 11]


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
    path = write_bits(tmp_path / "u", dtype, bits)
    aggregate_files(tmp_path, [("u", 3), ("u", 7), ("u", 1_000_003)])
    assert (tmp_path / MEAN).read_bytes() == path.read_bytes()


@pytest.mark.parametrize(("dtype", "bits"), MASKS)
def test_what_is_not_finite_in_the_parent_stays_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str, bits: list[int]
) -> None:
    monkeypatch.setattr(aggregation, "PIECE_ELEMENTS", 3)
    parent = write_bits(tmp_path / "u", dtype, [0, 0, *bits])
    aggregate_files(tmp_path, [("u", 3), ("u", 7)], parent="u")
    assert (tmp_path / MEAN).read_bytes() == parent.read_bytes()


def test_a_mean_that_is_not_finite_where_the_parent_is_makes_none(tmp_path: Path) -> None:
    write_numbers(tmp_path / "parent", "F32", [float("inf"), 1.0])
    write_numbers(tmp_path / "u", "F32", [float("inf"), float("inf")])
    assert aggregate_files(tmp_path, [("u", 1)]) == NotFinite()
    assert not (tmp_path / MEAN).exists()


def test_booleans_follow_the_majority_of_examples(tmp_path: Path) -> None:
    assert mean_of_numbers(tmp_path, "BOOL", [([1, 0], 1), ([1, 0], 1), ([0, 1], 3)]) == [0, 1]


def test_large_sums_of_finite_updates_stay_finite(tmp_path: Path) -> None:
    assert mean_of_numbers(tmp_path, "F32", [([3e38], 2**53), ([3e38], 2**53)]) == pytest.approx([3e38])


@pytest.mark.parametrize(
    "dtype", ["F64", "F32", "F16", "BF16", "I64", "U64", "I32", "U32", "I16", "U16", "I8", "U8"]
)
def test_every_number_type_is_weighted_by_examples(tmp_path: Path, dtype: str) -> None:
    assert mean_of_numbers(tmp_path, dtype, [([8, 0], 3), ([4, 100], 1)]) == [7, 25]


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
        write_numbers(tmp_path / name, dtype, [scale, 10 * scale, 100 * scale])
    aggregate_files(tmp_path, [("a", 1), ("b", 1), ("c", 1)])
    assert load_file(tmp_path / MEAN)["w"].tolist() == expected


@pytest.mark.parametrize(
    ("strategy", "fault"), [(Careless(), "must read all updates"), (Greedy(), "iterated over once")]
)
def test_a_strategy_that_reads_the_updates_otherwise_than_once_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, strategy: Elementwise, fault: str
) -> None:
    monkeypatch.setattr(aggregation, "strategy_of", lambda _: strategy)
    for name in ("parent", "a", "b"):
        write_numbers(tmp_path / name, "F32", [1.0])
    with pytest.raises(RuntimeError, match=fault):
        aggregate_files(tmp_path, [("a", 1), ("b", 1)])


def test_a_strategy_gets_the_exact_values_for_comparisons_or_an_iteration_but_not_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Comparing(Elementwise):
        needs_parent: ClassVar[bool] = False

        def combine(
            self, parent: Tensor, updates: UpdatePieces, weights: Tensor, state: Tensor | None
        ) -> tuple[Tensor, Tensor | None]:
            rows = updates.sortable()
            assert rows.dtype == torch.float32
            with pytest.raises(RuntimeError, match="iterated over once"):
                next(iter(updates))
            with pytest.raises(RuntimeError, match="iterated over once"):
                updates.sortable()
            return rows.amax(dim=0), state

    monkeypatch.setattr(aggregation, "strategy_of", lambda _: Comparing())
    for dtype in ("F32", "F16", "BF16"):
        assert mean_of_numbers(tmp_path, dtype, [([1, 5], 1), ([2, 3], 9)]) == [2, 5]


@pytest.mark.parametrize("dtype", ["I64", "U64", "I32", "U32", "I16", "U16", "I8", "U8"])
def test_of_integers_a_robust_strategy_takes_the_median_whatever_the_examples(
    tmp_path: Path, dtype: str
) -> None:
    updates = [([1.0, 8.0], 1), ([2.0, 7.0], 1), ([100.0, 6.0], 10**6), ([4.0, 5.0], 1)]
    assert mean_of_numbers(tmp_path, dtype, updates, make_spec(strategy="median")) == [2, 6], "the lower one"


def test_of_booleans_a_robust_strategy_takes_what_most_updates_have(tmp_path: Path) -> None:
    updates = [([1.0, 0.0, 1.0], 1), ([1.0, 0.0, 0.0], 1), ([0.0, 1.0, 1.0], 10**6)]
    assert mean_of_numbers(tmp_path, "BOOL", updates, make_spec(strategy="median")) == [1, 0, 1]


def test_buffers_are_the_median_of_all_updates_also_of_those_that_krum_does_not_choose(
    tmp_path: Path,
) -> None:
    for number, value in enumerate([1.0, 2.0, 30.0, 4.0, 1e30]):
        write_numbers(tmp_path / f"u{number}", "F32", [value], is_buffer=True)
    write_numbers(tmp_path / "parent", "F32", [0.0], is_buffer=True)
    updates = [(f"u{number}", 1) for number in range(5)]
    aggregate_files(tmp_path, updates, spec=make_spec(strategy="krum"))
    assert load_file(tmp_path / MEAN)["w"].tolist() == [4.0]
