from __future__ import annotations

import math

import pytest
import torch

from p2pfl.cards import REGRESSION, Agreement
from p2pfl.learning.objective import Classification, Regression, class_weights

AGREEMENT = Agreement(("cat", "dog", "fox"), 100)
LOGITS = torch.log(torch.tensor([[0.5, 0.25, 0.25], [0.5, 0.25, 0.25], [0.1, 0.8, 0.1]]))
TARGETS = torch.tensor([0, 1, 1])
LOSSES = [math.log(2), math.log(4), -math.log(0.8)]


def test_classification_trains_on_the_mean_cross_entropy_and_is_judged_by_sums() -> None:
    objective = Classification(AGREEMENT)
    assert objective.loss(LOGITS, TARGETS).item() == pytest.approx(sum(LOSSES) / 3)
    sums = objective.sums(LOGITS, TARGETS)
    assert sums == {"accuracy": 2.0, "loss": pytest.approx(sum(LOSSES))}
    assert tuple(sums) == objective.measures.metrics


def test_the_losses_of_batches_are_those_of_each() -> None:
    logits, targets = torch.randn(6, 3), torch.tensor([0, 1, 1, 2, 0, 0])
    numbers = torch.randn(6, 1)
    plain = Classification(AGREEMENT)
    for objective, outputs, wanted in (
        (plain, logits, targets),
        (plain.weighted(torch.tensor([0, 0, 1])), logits, targets),
        (Regression(1.0), numbers, torch.randn(6, 1)),
    ):
        losses = objective.losses(outputs, wanted, 2)
        alone = [objective.loss(outputs[part], wanted[part]) for part in (slice(3), slice(3, 6))]
        assert losses.tolist() == pytest.approx([one.item() for one in alone])


def test_classes_are_counted_as_right_examples_and_predicted() -> None:
    counts = Classification(AGREEMENT).counts(LOGITS, TARGETS)
    assert counts is not None
    assert counts.tolist() == [[1, 1, 2], [1, 2, 1], [0, 0, 0]]


def test_classes_are_not_counted_if_nothing_is_shared() -> None:
    objective = Classification(Agreement(("cat", "dog", "fox"), 100, share="none"))
    assert objective.counts(LOGITS, TARGETS) is None


def test_class_weights_are_inverse_counts_with_mean_1_over_the_classes_there_are() -> None:
    weights = class_weights(torch.tensor([0] * 6 + [2] * 2 + [3] * 3), 5)
    # 1/6, 1/2 and 1/3 have the mean 1/3.
    assert weights.tolist() == pytest.approx([0.5, 0, 1.5, 1.0, 0])
    assert weights.dtype == torch.float32


def test_class_weights_change_the_training_loss_and_not_the_metrics() -> None:
    plain = Classification(AGREEMENT)
    weighted = plain.weighted(torch.tensor([0] * 6 + [1] * 2))  # weights 0.5, 1.5, 0
    expected = (0.5 * LOSSES[0] + 1.5 * LOSSES[1] + 1.5 * LOSSES[2]) / 3.5
    assert weighted.loss(LOGITS, TARGETS).item() == pytest.approx(expected)
    assert weighted.sums(LOGITS, TARGETS) == plain.sums(LOGITS, TARGETS)
    counts = weighted.counts(LOGITS, TARGETS)
    assert counts is not None
    assert counts.tolist() == [[1, 1, 2], [1, 2, 1], [0, 0, 0]]


def test_regression_sums_errors_in_the_units_of_the_target() -> None:
    objective = Regression(deviation=10.0)
    outputs, targets = torch.tensor([[1.0], [0.0]]), torch.tensor([[0.5], [2.0]])
    assert objective.loss(outputs, targets).item() == pytest.approx((0.25 + 4) / 2)
    sums = objective.sums(outputs, targets)
    assert sums == pytest.approx(
        {"loss": 4.25, "mae": 25.0, "mse": 425.0, "target": 2.5, "target_square": 4.25}
    )
    assert tuple(sums) == REGRESSION.metrics
    assert objective.counts(outputs, targets) is None  # type: ignore[func-returns-value]  # the interface
