"""A task of the user's own: model, data, and what the user wants to be different from the defaults.

This module does not import torch: `p2pfl.Task` and `p2pfl.Agreed` are these classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from p2pfl.cards import AgreedColumn, Agreement

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn
    from torch.utils.data import DataLoader


@dataclass(frozen=True)
class Agreed:
    """What the data of all devices of a run have in common; the argument of `model(agreed)`."""

    classes: tuple[str, ...]
    """The names of all classes. Targets are indices into it; a model has one output for each. Empty for
    targets that are no classes."""
    columns: tuple[AgreedColumn, ...]
    """The columns of a table; empty for data of another kind."""
    input_shape: tuple[int, ...]
    """Shape of an input without the batch; empty for inputs of varying shape, or that are no tensors."""
    examples: int
    """Maximum number of training examples that a device may state."""

    @classmethod
    def of(cls, agreement: Agreement) -> Agreed:
        """Return the part of *agreement* that a model depends on."""
        return cls(agreement.classes, agreement.columns, agreement.input_shape, agreement.examples)


@dataclass(frozen=True)
class TrainSettings:
    """The settings of a training; the last argument of `train(model, loader, settings)`."""

    epochs: int
    """Local epochs of this round."""
    batch_size: int
    """The batch size of *loader*."""
    learning_rate: float
    round: int
    """Number of the round, from 1."""
    seed: int
    """Seed of this training. torch's default generator has it already."""
    device: torch.device
    """The device of the model; the batches of *loader* are on the CPU."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """A task in one object: `task = p2pfl.Task(model=..., data=...)` in a file, or `package.module:task`.

    A file with functions of these names is the same. Only `model` and `data` are needed.
    """

    model: Callable[..., nn.Module]
    """`model()` or `model(agreed)`: returns a freshly initialised model; *agreed* is an `Agreed`."""
    data: Callable[..., Any]
    """`data()` or `data(place)`: returns a torch `Dataset` of pairs (input, target), or (train, test), two of
    them; a pair of tensors (inputs, targets) is a data set too. *place* is the path of `--data`, or None."""
    loss: Callable[[Any, Any], Tensor] | None = None
    """`loss(outputs, targets)`: the mean loss of a batch, a scalar. Default: cross-entropy for targets that
    are integers, the mean squared error for others."""
    metrics: Callable[[Any, Any], Mapping[str, Any]] | None = None
    """`metrics(outputs, targets)`: numbers by name, each a mean over the batch. Default: accuracy for
    integers, mean absolute and squared error for others."""
    primary: tuple[str, Literal["max", "min"]] | None = None
    """The metric by which models are compared, and whether a larger or a smaller value is better. Default:
    accuracy, R2, or the loss, whichever is first in the metrics."""
    optimizer: Callable[[Iterable[nn.Parameter], float], torch.optim.Optimizer] | None = None
    """`optimizer(parameters, learning_rate)`: any optimizer of `torch.optim`; made anew for every round."""
    scheduler: Callable[..., Any] | None = None
    """`scheduler(optimizer)`: a scheduler of `torch.optim.lr_scheduler`. It takes one step for each round of
    the run, and works with `optimizer` only."""
    collate: Callable[[list[Any]], Any] | None = None
    """`collate(examples)`: returns (inputs, targets) of a batch. Default: that of torch's `DataLoader`."""
    classes: Sequence[str] = ()
    """The names of the classes, in the order of the targets. Default: the attribute `classes` of the data
    set, else the numbers from 0 to the largest target."""
    train: Callable[[nn.Module, DataLoader[Any], TrainSettings], float | None] | None = None
    """`train(model, loader, settings)`: replaces the training loop; may return the mean training loss."""
    evaluate: Callable[[nn.Module, DataLoader[Any]], Mapping[str, Any]] | None = None
    """`evaluate(model, loader)`: replaces the evaluation; returns numbers by name."""
    inputs: Callable[[Path], Any] | None = None
    """`inputs(place)`: what `p2pfl predict` passes to the model for a file or folder that has no targets: a
    tensor [examples, ...], or a list or data set of inputs. Default: all inputs of `data(place)`."""
    predict: Callable[[Any], Any] | None = None
    """`predict(outputs)`: what `p2pfl predict` prints, a text or number for each example of a batch. Default:
    the most probable class with its probability, or the number."""


OPTIONAL = ("loss", "metrics", "primary", "optimizer", "scheduler", "collate", "classes", "train", "evaluate")
"""The names that a file may define besides `model` and `data`."""

PREDICTING = ("inputs", "predict")
"""The same for functions that no run needs. Other things of a file may have these names."""
