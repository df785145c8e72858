"""Loss and metrics of a user's task: the user's own, or the defaults that follow from the targets.

Integers are classes: cross-entropy and accuracy. Other numbers are predicted: mean squared error, mean
absolute error. What the user's functions return is checked in every batch, since it may depend on the batch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from p2pfl.cards import CLASSIFICATION, MAX_SUMS, REGRESSION, Agreement, Measures
from p2pfl.errors import TaskError
from p2pfl.learning.batches import Batches, call_model
from p2pfl.learning.objective import Classification, Regression, class_weights, losses_one_by_one
from p2pfl.learning.own.code import UserCode, a
from p2pfl.learning.own.mistakes import normalised

METRIC_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
"""The names of metrics (`p2pfl.spec.MetricName`)."""

IGNORED = -100
"""A target of this value counts neither in the loss nor in the accuracy, as in torch's cross-entropy."""

Kind = Literal["class", "mask", "number", "numbers", "other"]
"""What the targets of a batch are. "class": one integer for each example; "mask": several. "number": one
float for each example; "numbers": several. "other": no tensor."""


def kind_of(targets: Any) -> Kind:
    """Return what the *targets* of a batch are."""
    if not isinstance(targets, Tensor) or not targets.ndim or targets.is_complex():
        return "other"
    if targets.is_floating_point():
        return "number" if targets.numel() == len(targets) else "numbers"
    return "class" if targets.ndim == 1 else "mask"


class UserObjective:
    """The objective of a user's task."""

    def __init__(
        self,
        code: UserCode,
        kind: Kind,
        measures: Measures,
        agreement: Agreement,
        weights: Tensor | None = None,
    ) -> None:
        """*weights* [classes] multiply the default loss of the examples of each class."""
        self.measures = measures
        self._code = code
        self._kind = kind
        self._agreement = agreement
        self._weights = weights
        self._classes = Classification(agreement, weights)

    def weighted(self, labels: Tensor) -> UserObjective:
        """Return this objective with the class weights of a device whose training examples have *labels*."""
        weights = class_weights(labels, len(self._agreement.classes))
        return UserObjective(self._code, self._kind, self.measures, self._agreement, weights)

    def check_weighted(self) -> None:
        """Check that classes can have weights.

        Raises:
            TaskError: the loss is the user's own, or classes are not known.
        """
        if self._kind != "class" or self._code.task.loss is not None or not self._agreement.classes:
            raise TaskError(
                f"{self._code.file.name}: --class-weights needs known classes and the default loss; leave it "
                "out, or weigh the classes in loss()."
            )

    def loss(self, outputs: Any, targets: Any, /) -> Tensor:
        """Return the mean loss of a batch.

        Raises:
            TaskError: the user's loss fails or returns no scalar, or the outputs do not fit the targets.
        """
        own = self._code.task.loss
        if own is None:
            return self._default_loss(outputs, targets)
        with self._code.calling("loss"):
            value = own(outputs, targets)
        if not isinstance(value, Tensor) or value.numel() != 1:
            shown = f"a tensor of shape {shape(value)}" if isinstance(value, Tensor) else a(value)
            raise self._code.wrong(
                "loss", f"returned {shown}; return a scalar tensor, the mean over the batch"
            )
        if not value.is_floating_point():
            raise self._code.wrong("loss", f"returned a tensor of {value.dtype}, which has no gradient")
        return value.reshape(())

    def losses(self, outputs: Any, targets: Any, parts: int, /) -> Tensor:
        """Return the loss of each of *parts* batches of equal length that follow each other: [parts].

        Raises:
            TaskError: as in `loss`.
        """
        if self._code.task.loss is not None or self._kind != "class" or self._weights is not None:
            return losses_one_by_one(self, outputs, targets, parts)
        each = self._cross_entropy(outputs, targets, None, reduction="none")
        counted: Tensor = targets != IGNORED
        return each.view(parts, -1).sum(1) / counted.view(parts, -1).sum(1)

    def sums(self, outputs: Any, targets: Any, /) -> dict[str, float]:
        """Return the sum of each metric over a batch.

        Raises:
            TaskError: the user's metrics fail, or are not numbers with the names of the first batch.
        """
        measured = self.measure(outputs, targets)
        if tuple(sorted(measured)) != self.measures.metrics:
            raise self._code.wrong(
                "metrics",
                f"returned {', '.join(sorted(measured)) or 'nothing'}, and before that "
                f"{', '.join(self.measures.metrics)}; return the same names for every batch",
            )
        return measured

    def measure(self, outputs: Any, targets: Any) -> dict[str, float]:
        """Return the sums of the metrics that there are for this batch, whatever their names."""
        count = batch_size(targets, outputs)
        own, task = self._code.task.metrics, self._code.task
        if own is None and task.loss is None:
            return self._default_sums(outputs, targets, count)
        sums = {"loss": float(self.loss(outputs, targets)) * count}
        if own is None:
            return sums | self._default_metrics(outputs, targets, count)
        with self._code.calling("metrics"):
            values = own(outputs, targets)
        return sums | {
            name: value * count for name, value in checked_metrics(self._code, "metrics", values).items()
        }

    def counts(self, outputs: Any, targets: Any, /) -> Tensor | None:
        """Return for each class [right, examples, predicted]; None if they are not counted."""
        return self._classes.counts(outputs, targets) if self.measures.counts_classes else None

    # --- defaults -------------------------------------------------------------------------------------------

    def _default_loss(self, outputs: Any, targets: Any) -> Tensor:
        if self._kind in ("class", "mask"):
            return self._cross_entropy(outputs, targets, self._weights)
        outputs = self._fitting(outputs, targets)
        return functional.mse_loss(outputs, targets.to(outputs.dtype))

    def _default_sums(self, outputs: Any, targets: Any, count: int) -> dict[str, float]:
        """Return loss and metrics of a task with neither of its own."""
        if self._kind == "number":
            return Regression(1.0).sums(self._fitting(outputs, targets), targets)
        if self._kind in ("class", "mask"):
            value = self._cross_entropy(outputs, targets, None)
        else:
            value = self._default_loss(outputs, targets)
        return {"loss": float(value) * count} | self._default_metrics(outputs, targets, count)

    def _default_metrics(self, outputs: Any, targets: Any, count: int) -> dict[str, float]:
        """Return the metrics that fit outputs and targets; a loss of the user's own may take others."""
        if not isinstance(outputs, Tensor) or not isinstance(targets, Tensor):
            return {}
        if self._kind in ("class", "mask"):
            if not fits_scores(outputs, targets):
                return {}
            is_counted = targets != IGNORED
            right = (outputs.argmax(1) == targets) & is_counted
            return {"accuracy": int(right.sum()) * count / max(1, int(is_counted.sum()))}
        if outputs.numel() != targets.numel():
            return {}
        difference = outputs.double().reshape(targets.shape) - targets.double()
        return {
            "mae": float(difference.abs().mean()) * count,
            "mse": float(difference.square().mean()) * count,
        }

    def _cross_entropy(
        self, outputs: Any, targets: Tensor, weights: Tensor | None, reduction: str = "mean"
    ) -> Tensor:
        self._check_scores(outputs, targets)
        try:
            return functional.cross_entropy(
                outputs, targets.long(), weights, ignore_index=IGNORED, reduction=reduction
            )
        except IndexError as error:
            raise self._code.wrong(
                "model",
                f"the model returned {outputs.shape[1]} outputs, one for each class from 0, and the targets "
                f"are from {int(targets.min())} to {int(targets.max())}",
            ) from error

    def _check_scores(self, outputs: Any, targets: Tensor) -> None:
        """Check that *outputs* are a score for each class."""
        if not isinstance(outputs, Tensor):
            raise self._code.wrong(
                "model", f"the model returned {a(outputs)}; return a tensor, or define loss and metrics"
            )
        if not fits_scores(outputs, targets):
            expected = ", ".join(["batch", "classes", *map(str, targets.shape[1:])])
            raise self._code.wrong(
                "model",
                f"the model returned outputs of shape {shape(outputs)} for integer targets of shape "
                f"{shape(targets)}; return [{expected}], or targets of floats",
            )

    def _fitting(self, outputs: Any, targets: Any) -> Tensor:
        """Return *outputs* in the shape of *targets*: torch would broadcast [batch, 1] with [batch]."""
        if not isinstance(outputs, Tensor) or not isinstance(targets, Tensor):
            raise self._code.wrong(
                "model",
                f"the model returned {a(outputs)} for targets that are {a(targets)}; return tensors, or "
                "define loss and metrics",
            )
        if outputs.squeeze().shape != targets.squeeze().shape:
            raise self._code.wrong(
                "model",
                f"the model returned outputs of shape {shape(outputs)} for targets of shape "
                f"{shape(targets)}; return the shape of the targets",
            )
        return outputs.reshape(targets.shape)


def probe(code: UserCode, module: nn.Module, batches: Batches, agreement: Agreement) -> tuple[Kind, Measures]:
    """Evaluate *module* on the examples of *batches*, one batch; return what loss and metrics there are.

    Raises:
        TaskError: something that the user's functions return is not what is expected.
    """
    with code.calling("data"):
        inputs, targets, _ = next(iter(batches.ordered(max(1, batches.examples))))
    given = f"inputs of {inputs.dtype} {shape(inputs)}" if isinstance(inputs, Tensor) else a(inputs)
    with torch.no_grad(), code.calling("model", given):
        outputs = call_model(module, inputs)
    kind = kind_of(targets)
    is_scored = kind in ("class", "mask") and code.task.loss is None and isinstance(outputs, Tensor)
    if is_scored and fits_scores(outputs, targets) and (flaw := normalised(outputs)):
        code.warnings[f"{code.place(code.task.model, 'model')}: {flaw}"] = None
    with torch.no_grad():
        return kind, _measures(code, kind, outputs, targets, agreement)


def _measures(code: UserCode, kind: Kind, outputs: Any, targets: Any, agreement: Agreement) -> Measures:
    task = code.task
    if kind == "other" and (task.loss is None or task.metrics is None):
        raise code.wrong("data", f"gives targets that are {a(targets)}; define loss and metrics for them")
    objective = UserObjective(code, kind, CLASSIFICATION, agreement)
    is_scored = kind == "class" and task.loss is None and isinstance(outputs, Tensor) and outputs.ndim == 2
    if is_scored and outputs.shape[1] < len(agreement.classes):
        raise code.wrong(
            "model",
            f"the model returned {outputs.shape[1]} outputs for {len(agreement.classes)} classes; return one "
            "for each, as in nn.Linear(.., len(agreed.classes))",
        )
    objective.loss(outputs, targets)
    names = tuple(sorted(objective.measure(outputs, targets)))
    loss = loss_name(code, kind)
    if task.loss is None and task.metrics is None and task.primary is None:
        if kind == "class":
            return CLASSIFICATION
        if kind == "number":
            return REGRESSION
    is_counted = kind == "class" and task.loss is None and "f1" not in names
    return with_primary(code, loss, names, counts_classes=is_counted)


def with_primary(code: UserCode, loss: str, names: tuple[str, ...], *, counts_classes: bool) -> Measures:
    """Return the measures of a task with the metrics *names*.

    Raises:
        TaskError: the primary metric of the task is none of them.
    """
    derived = [
        *(["f1"] if counts_classes else []),
        *(["r2"] if {"target", "target_square"} <= {*names} else []),
    ]
    if code.task.primary is not None:
        primary, direction = code.task.primary
        if primary not in (*names, *derived):
            where = code.defined("primary", "metrics" if code.task.metrics else "data")
            raise TaskError(
                f"{where}: the primary metric {primary!r} is not measured; there are "
                f"{', '.join((*names, *derived))}"
            )
        return Measures(loss, names, primary, direction, counts_classes)
    for name in ("accuracy", "r2"):
        if name in (*names, *derived):
            return Measures(loss, names, name, "max", counts_classes)
    for name in ("mse", "loss"):
        if name in names:
            return Measures(loss, names, name, "min", counts_classes)
    raise code.wrong(
        "evaluate", f'returned {", ".join(names)}; say which is compared: primary = ("{names[0]}", "max")'
    )


def loss_name(code: UserCode, kind: Kind) -> str:
    """Return the name of the loss, which all devices must have in common."""
    own = code.task.loss
    if own is not None:
        name = getattr(own, "__qualname__", type(own).__qualname__)
        return str(name)[:64]
    if code.task.train is not None and code.task.evaluate is not None:
        return "own"
    return "cross-entropy" if kind in ("class", "mask") else "mse"


def checked_metrics(code: UserCode, hook: str, values: Any) -> dict[str, float]:
    """Return *values*, which the function *hook* of the task returned, as numbers by name.

    Raises:
        TaskError: they are no numbers by name, or a name is not allowed.
    """
    if not isinstance(values, Mapping) or not values:
        what = "an empty dict" if isinstance(values, Mapping) else a(values)
        raise code.wrong(hook, f'returned {what}; return numbers by name, such as {{"dice": 0.9}}')
    if len(values) >= MAX_SUMS:
        raise code.wrong(hook, f"returned {len(values)} numbers; at most {MAX_SUMS - 1} are possible")
    return {
        _checked_name(code, hook, name): _number(code, hook, name, value) for name, value in values.items()
    }


def _checked_name(code: UserCode, hook: str, name: Any) -> str:
    if not isinstance(name, str) or METRIC_NAME.fullmatch(name) is None:
        raise code.wrong(
            hook,
            f"returned the name {str(name)[:40]!r}; a name begins with a small letter and has only small "
            "letters, digits and _, 32 at most",
        )
    return name


def _number(code: UserCode, hook: str, name: Any, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError):
        shown = f"a tensor of shape {shape(value)}" if isinstance(value, Tensor) else a(value)
        raise code.wrong(hook, f"returned {shown} for {str(name)[:40]!r}; return a number") from None


def fits_scores(outputs: Tensor, targets: Tensor) -> bool:
    """Return whether *outputs* [batch, classes, ...] are scores for *targets* [batch, ...]."""
    return (
        outputs.ndim >= 2
        and outputs.is_floating_point()
        and outputs.shape[:1] + outputs.shape[2:] == targets.shape
    )


def batch_size(targets: Any, outputs: Any) -> int:
    """Return the number of examples of a batch."""
    for value in (targets, outputs):
        if isinstance(value, Tensor) and value.ndim:
            return len(value)
    return len(targets) if hasattr(targets, "__len__") else 1


def shape(value: Tensor) -> str:
    """Return the shape of *value* for people: "[32, 10]"."""
    return str(list(value.shape))
