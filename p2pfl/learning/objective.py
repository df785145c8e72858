"""The objective of a training: the loss that is minimised and the metrics that judge a model."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from p2pfl.cards import CLASSIFICATION, REGRESSION, Agreement, Measures, counted_classes


class Judge(Protocol):
    """The metrics of a model. *outputs* are what it returns for a batch, *targets* what the data hold."""

    @property
    def measures(self) -> Measures:
        """The names of loss and metrics."""

    def sums(self, outputs: Tensor, targets: Tensor, /) -> dict[str, float]:
        """Return the sum of each metric of `measures` over a batch."""

    def counts(self, outputs: Tensor, targets: Tensor, /) -> Tensor | None:
        """Return for each class [right, examples, predicted] as int64 [classes, 3]; None if not counted."""


class Objective(Judge, Protocol):
    """A loss and metrics."""

    def loss(self, outputs: Tensor, targets: Tensor, /) -> Tensor:
        """Return the mean loss of a batch, a scalar to differentiate."""

    def losses(self, outputs: Tensor, targets: Tensor, parts: int, /) -> Tensor:
        """Return the `loss` of each of *parts* batches of equal length that follow each other: [parts]."""


class Classification:
    """Cross-entropy of logits [batch, classes] with class indices [batch] int64."""

    measures = CLASSIFICATION

    def __init__(self, agreement: Agreement, weights: Tensor | None = None) -> None:
        """*weights* [classes] multiply the training loss of the examples of each class."""
        self._agreement = agreement
        self._classes = counted_classes(agreement)
        self._weights = weights

    def weighted(self, labels: Tensor) -> Classification:
        """Return this objective with the class weights of a device whose training examples have *labels*."""
        return Classification(self._agreement, class_weights(labels, len(self._agreement.classes)))

    def loss(self, outputs: Tensor, targets: Tensor, /) -> Tensor:
        """Return the mean cross-entropy, weighted by class if there are weights."""
        return functional.cross_entropy(outputs, targets, self._weights)

    def losses(self, outputs: Tensor, targets: Tensor, parts: int, /) -> Tensor:
        """Return the loss of each of *parts* batches of equal length that follow each other: [parts]."""
        if self._weights is not None:
            return losses_one_by_one(self, outputs, targets, parts)
        return functional.cross_entropy(outputs, targets, reduction="none").view(parts, -1).mean(1)

    def sums(self, outputs: Tensor, targets: Tensor, /) -> dict[str, float]:
        """Return the number of right answers and the summed cross-entropy, without class weights."""
        return {
            "accuracy": float((outputs.argmax(1) == targets).sum()),
            "loss": float(functional.cross_entropy(outputs, targets, reduction="sum")),
        }

    def counts(self, outputs: Tensor, targets: Tensor, /) -> Tensor | None:
        """Return right answers, examples and predictions of each class."""
        if not self._classes:
            return None
        predicted = outputs.argmax(1)
        parts = (targets[predicted == targets], targets, predicted)
        # A model of the user's own may have more outputs than there are classes.
        counted = [torch.bincount(part, minlength=self._classes)[: self._classes] for part in parts]
        return torch.stack(counted, dim=1)


class Regression:
    """Squared error of predictions [batch, 1] of standardised targets [batch, 1] float32."""

    measures = REGRESSION

    def __init__(self, deviation: float) -> None:
        """*deviation* is that of the targets before they were standardised."""
        self._deviation = deviation

    def loss(self, outputs: Tensor, targets: Tensor, /) -> Tensor:
        """Return the mean squared error."""
        return functional.mse_loss(outputs, targets)

    def losses(self, outputs: Tensor, targets: Tensor, parts: int, /) -> Tensor:
        """Return the loss of each of *parts* batches of equal length that follow each other: [parts]."""
        return functional.mse_loss(outputs, targets, reduction="none").view(parts, -1).mean(1)

    def sums(self, outputs: Tensor, targets: Tensor, /) -> dict[str, float]:
        """Return the sums of the errors, and of the targets and their squares, computed in float64."""
        difference, target = (outputs.double() - targets.double()), targets.double()
        squares = float(difference.square().sum())
        return {
            "loss": squares,
            "mae": float(difference.abs().sum()) * self._deviation,
            "mse": squares * self._deviation**2,
            "target": float(target.sum()),
            "target_square": float(target.square().sum()),
        }

    def counts(self, outputs: Tensor, targets: Tensor, /) -> None:  # noqa: ARG002  the interface
        """Return None: there are no classes."""
        return


def losses_one_by_one(objective: Objective, outputs: Tensor, targets: Tensor, parts: int) -> Tensor:
    """Return `objective.losses` of any objective, whose `loss` is called for each batch."""
    pairs = zip(outputs.chunk(parts), targets.chunk(parts), strict=True)
    return torch.stack([objective.loss(output, target) for output, target in pairs])


def class_weights(labels: Tensor, classes: int) -> Tensor:
    """Return a weight for each of *classes*, for examples with *labels* [examples] int64.

    The weight of a class is inversely proportional to its number of examples. The mean over the classes that
    have examples is 1. A class without examples has weight 0, which no example uses.
    """
    counts = torch.bincount(labels.cpu(), minlength=classes).double()
    inverse = torch.where(counts > 0, 1 / counts, 0.0)
    return (inverse * (counts > 0).sum() / inverse.sum()).float().to(labels.device)
