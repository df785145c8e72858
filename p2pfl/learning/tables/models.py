"""The built-in models for tables, sized by the agreement of a run."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from torch import nn

from p2pfl.cards import Agreement
from p2pfl.errors import TaskError
from p2pfl.learning.tables.encoding import inputs_of
from p2pfl.text import one_line

HIDDEN = 64
"""Units of each hidden layer."""


def linear(inputs: int, outputs: int) -> nn.Module:
    """Return one layer: linear regression, or with cross-entropy logistic regression."""
    return nn.Sequential(OrderedDict(out=nn.Linear(inputs, outputs)))


def perceptron(inputs: int, outputs: int) -> nn.Module:
    """Return a network with two hidden layers."""
    return nn.Sequential(  # x: [batch, inputs]
        OrderedDict(
            hidden1=nn.Linear(inputs, HIDDEN),
            relu1=nn.ReLU(),
            hidden2=nn.Linear(HIDDEN, HIDDEN),
            relu2=nn.ReLU(),
            out=nn.Linear(HIDDEN, outputs),
        )
    )


TABLE_MODELS: dict[str, Callable[[int, int], nn.Module]] = {"mlp": perceptron, "linear": linear}
"""Constructors by name. A model maps inputs [batch, inputs] to logits [batch, classes], or to one number."""


def build_table_model(name: str, agreement: Agreement) -> nn.Module:
    """Return a freshly initialised model *name* for the table of *agreement*.

    Raises:
        TaskError: there is no such model.
    """
    if name not in TABLE_MODELS:
        raise TaskError(
            f"There is no model {one_line(name, 40)!r} for tables; the models are: {', '.join(TABLE_MODELS)}."
        )
    return TABLE_MODELS[name](inputs_of(agreement), len(agreement.classes) or 1)
