from __future__ import annotations

from typing import cast

import pytest
import torch

from p2pfl.errors import TaskError
from p2pfl.learning.batches import Batches, TensorBatches
from p2pfl.learning.class_weighting import check_weighted, weighted
from p2pfl.learning.objective import Classification, Regression
from tests.support.records import AGREEMENT


def batches(labels: list[int]) -> TensorBatches:
    rows = torch.arange(len(labels))
    return TensorBatches(torch.zeros(len(labels), 2), torch.tensor(labels), rows, None)


def test_rare_classes_weigh_more_in_the_loss() -> None:
    outputs, targets = torch.zeros(2, 10), torch.tensor([0, 1])
    outputs[0, 0] = 5.0  # the frequent class is right, the rare one wrong
    objective = weighted(Classification(AGREEMENT), batches([0] * 9 + [1]))
    assert objective.loss(outputs, targets) > Classification(AGREEMENT).loss(outputs, targets)


def test_numbers_have_no_class_weights() -> None:
    with pytest.raises(TaskError, match="--class-weights needs a task with classes and cross-entropy"):
        check_weighted(Regression(1.0))


def test_examples_without_labels_have_no_class_weights() -> None:
    class Unlabelled:
        labels = None

    with pytest.raises(TaskError, match="these data do not tell them"):
        weighted(Classification(AGREEMENT), cast(Batches, Unlabelled()))
