"""What a script measures: the means that its `metrics(model)` returns, as an evaluation of a run."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import nn

from p2pfl.cards import MAX_EXAMPLES, MAX_SUMS, Measures
from p2pfl.errors import TaskError
from p2pfl.learning.training import NON_FINITE
from p2pfl.messages import Evaluation
from p2pfl.spec import Share

MetricsFunction = Callable[[Any], Mapping[str, Any]]
"""Judges the model that was given to `p2pfl.rounds`: returns means by name, perhaps with "examples"."""

EXAMPLES = "examples"
"""Name of the number of examples that the means are of; it weighs them among the devices."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}\Z")

NO_METRICS = Measures("own", ("loss",), "loss", "min")
"""Of scripts without metrics."""


class ScriptMetrics:
    """Calls the metrics of a script, and checks what they return.

    The model is in evaluation mode and needs no gradients meanwhile; afterwards each of its modules has the
    mode that it had.
    """

    def __init__(
        self,
        model: nn.Module,
        function: MetricsFunction | None,
        primary: tuple[str, Literal["max", "min"]],
        loss: str,
    ) -> None:
        """Call *function* once, to learn the names of the metrics.

        Raises:
            TaskError: it returns no metrics, or *primary* is none of them.
        """
        self._model = model
        self._function = function
        self.examples = 1
        """Number of examples of the last evaluation."""
        self.measures = Measures(loss, NO_METRICS.metrics, NO_METRICS.primary, NO_METRICS.direction)
        if function is None:
            return
        names = tuple(sorted(self._means()))
        name, direction = primary
        if name not in names:
            raise TaskError(
                f"The metrics are {', '.join(names)}, and the primary metric {name!r} is none of them: give "
                f'p2pfl.rounds the one that compares models, such as primary=("{names[0]}", "max").'
            )
        if direction not in ("max", "min"):
            raise TaskError(f'The direction of the primary metric is "max" or "min", not {direction!r}.')
        self.measures = Measures(loss, names, name, direction)

    @property
    def are_given(self) -> bool:
        """Whether there are metrics; without them, `evaluate` must not be called."""
        return self._function is not None

    def evaluate(self, share: Share) -> Evaluation:
        """Judge the model as it is; with *share* "none" the number of examples is not told.

        Raises:
            TaskError: the names of the metrics have changed.
        """
        means = self._means()
        names = tuple(sorted(means))
        if names != self.measures.metrics:
            raise TaskError(
                f"The metrics are {', '.join(names)} now, and were {', '.join(self.measures.metrics)} at the "
                "start: return the same names each time."
            )
        examples = self.examples if share != "none" else 1
        sums = {name: mean * examples for name, mean in sorted(means.items())}
        finite = {name: value if math.isfinite(value) else NON_FINITE for name, value in sums.items()}
        return Evaluation(examples, finite)

    def _means(self) -> dict[str, float]:
        assert self._function is not None
        with torch.no_grad(), _evaluation_mode(self._model):
            returned = self._function(self._model)
        if not isinstance(returned, Mapping):
            raise TaskError(
                f"metrics(model) returned {type(returned).__name__}, and a dictionary of names and means is "
                'needed, such as {"accuracy": 0.9, "loss": 0.3}.'
            )
        means = dict(returned)
        self.examples = checked_count(means.pop(EXAMPLES, 1), "The number of examples of the metrics")
        if not 1 <= len(means) <= MAX_SUMS:
            raise TaskError(f"metrics(model) returned {len(means)} metrics; 1 to {MAX_SUMS} are possible.")
        return {_checked_name(name): _number(name, value) for name, value in means.items()}


def checked_count(value: Any, what: str) -> int:
    """Return *value* as a number of examples or steps; *what* begins the sentence if it is none.

    Raises:
        TaskError: it is no whole number from 1 to `MAX_EXAMPLES`.
    """
    try:
        count = int(value)
    except (TypeError, ValueError, OverflowError):
        count = 0
    if isinstance(value, bool) or count != value or not 1 <= count <= MAX_EXAMPLES:
        raise TaskError(f"{what} is {str(value)[:40]}, and a whole number of at least 1 is needed.")
    return count


def _checked_name(name: Any) -> str:
    if not isinstance(name, str) or not _NAME.match(name):
        raise TaskError(
            f"A metric has the name {str(name)[:40]!r}: use at most 32 lower-case letters, digits and _, "
            "with a letter first."
        )
    return name


def _number(name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TaskError(
            f"The metric {name!r} is {type(value).__name__} and no number: return its mean over the examples."
        ) from error


@contextmanager
def _evaluation_mode(model: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
