"""What all robust strategies promise."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from p2pfl.errors import TaskError
from p2pfl.learning.strategies.elementwise import Elementwise
from p2pfl.learning.strategies.fedavg import FedAvg
from p2pfl.learning.strategies.registry import STRATEGIES
from p2pfl.learning.strategies.robust import Robust, mean_of
from p2pfl.strategy_specs import (
    BulyanSpec,
    CentredClippingSpec,
    GeometricMedianSpec,
    KrumSpec,
    MedianSpec,
    MultiKrumSpec,
    NormClippingSpec,
    StrategySpec,
    TrimmedMeanSpec,
    least_updates,
)
from tests.support.whole_updates import combined, rows_of

ELEMENTS = 8

BY_ELEMENT: list[StrategySpec] = [MedianSpec(), TrimmedMeanSpec(2), BulyanSpec(2)]
SELECTING: list[StrategySpec] = [KrumSpec(2), MultiKrumSpec(2), GeometricMedianSpec()]
CLIPPING: list[StrategySpec] = [NormClippingSpec(), CentredClippingSpec(radius=0.5, iterations=3)]
ALL = [*BY_ELEMENT, *SELECTING, *CLIPPING]


def _name(spec: StrategySpec) -> str:
    return str(spec.__struct_config__.tag)


def _result(spec: StrategySpec, updates: Tensor, parent: Tensor | None = None) -> Tensor:
    strategy: Elementwise = STRATEGIES[type(spec)](spec)
    centre = torch.zeros(updates.shape[1], dtype=torch.float64) if strategy.slots else None
    return combined(strategy, updates, parent, centre=centre)[0].double()


def _normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("spec", [spec for spec in ALL if least_updates(spec) > 1], ids=_name)
def test_fewer_updates_than_the_theory_needs_are_refused_in_a_sentence(spec: StrategySpec) -> None:
    least = least_updates(spec)
    with pytest.raises(TaskError, match=f"{_name(spec)} needs at least {least} updates, and this round has"):
        _result(spec, _normal(1, least - 1, ELEMENTS))
    assert _result(spec, _normal(1, least, ELEMENTS)).isfinite().all()


@pytest.mark.parametrize("spec", ALL, ids=_name)
def test_integers_booleans_and_buffers_are_not_left_to_the_number_of_examples(spec: StrategySpec) -> None:
    strategy = STRATEGIES[type(spec)](spec)
    assert isinstance(strategy, Robust)
    assert strategy.takes_median


@pytest.mark.parametrize("spec", ALL, ids=_name)
@given(seed=st.integers(0, 10**6), order=st.permutations(range(11)))
@settings(max_examples=15, deadline=None)
def test_the_order_of_the_updates_changes_no_more_than_the_last_bits(
    spec: StrategySpec, seed: int, order: list[int]
) -> None:
    updates = _normal(seed, 11, ELEMENTS)
    assert torch.allclose(_result(spec, updates[order]), _result(spec, updates), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("spec", ALL, ids=_name)
@given(seed=st.integers(0, 10**6), shift=st.floats(-1e3, 1e3))
@settings(max_examples=15, deadline=None)
def test_what_all_models_move_by_the_result_moves_by(spec: StrategySpec, seed: int, shift: float) -> None:
    updates, parent = _normal(seed, 11, ELEMENTS), _normal(seed + 1, ELEMENTS)
    moved = _result(spec, updates + shift, parent + shift)
    assert torch.allclose(moved, _result(spec, updates, parent) + shift, rtol=1e-6, atol=1e-6)


VALUES = st.floats(-1e30, 1e30) | st.floats(-3, 3)


@pytest.mark.parametrize("spec", BY_ELEMENT, ids=_name)
@given(
    seed=st.integers(0, 10**6),
    wrong=st.lists(st.lists(VALUES, min_size=4, max_size=4), min_size=2, max_size=2),
)
@settings(max_examples=40, deadline=None)
def test_wrong_updates_do_not_move_an_element_far_from_the_range_of_the_others(
    spec: StrategySpec, seed: int, wrong: list[list[float]]
) -> None:
    right = _normal(seed, 9, 4)
    found = _result(spec, torch.cat([rows_of(*wrong), right]))
    least, most = right.min(dim=0).values, right.max(dim=0).values
    # Bulyan averages the values that are closest to a median, which is in the range. At least as many right
    # values are within the width of the range from it, so a value that is averaged is too.
    slack = most - least if isinstance(spec, BulyanSpec) else torch.zeros(4)
    assert (found >= least - slack).all()
    assert (found <= most + slack).all()


def _attack(kind: str, right: Tensor, parent: Tensor) -> Tensor:
    """Return two wrong updates."""
    change = (right - parent).mean(dim=0)
    match kind:
        case "sign-flipped":
            return torch.stack([parent - 9 * change] * 2)
        case "huge":
            return _normal(9, 2, len(parent)) * 1e30
        case _:
            return torch.full((2, len(parent)), 1e6, dtype=torch.float64)


@pytest.mark.parametrize("spec", ALL, ids=_name)
@pytest.mark.parametrize("kind", ["sign-flipped", "huge", "equal"])
def test_two_wrong_updates_of_ten_leave_the_result_near_the_mean_of_the_right_ones(
    spec: StrategySpec, kind: str
) -> None:
    parent = _normal(1, 200)
    right = parent + 0.1 + 0.05 * _normal(2, 8, 200)
    right_mean = right.mean(dim=0)
    size = float((right_mean - parent).norm())
    if isinstance(spec, CentredClippingSpec):
        spec = CentredClippingSpec(radius=size)
    updates = torch.cat([_attack(kind, right, parent), right])
    if isinstance(spec, BulyanSpec):
        updates = torch.cat([updates, right[:1]])  # of ten, Bulyan needs eleven for two attackers
    # A right update has a distance of 0.5 from the mean, in units of its change.
    assert float((_result(spec, updates, parent) - right_mean).norm()) < 0.5 * size
    mean, _ = combined(FedAvg(), updates, parent)
    assert float((mean - right_mean).norm()) > 1.5 * size


def test_the_mean_of_rows_is_between_the_first_and_the_last() -> None:
    # Sums of rounded fifths are a bit too large for some of these numbers, and a bit too small for others.
    equal = torch.cat([torch.arange(1, 2000, dtype=torch.float64) / 1000, torch.tensor([5e-324, 1.7e308])])
    assert torch.equal(mean_of([equal] * 5), equal)
    assert mean_of([torch.tensor([1.0]), torch.tensor([2.0])]).tolist() == [1.5]
