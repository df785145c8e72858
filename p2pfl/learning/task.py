"""What a task must offer: its data and its models.

A task's module holds an instance named `TASK`; its name, models and defaults are in
`p2pfl.learning.catalogue`, which knows no torch.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from p2pfl.learning import catalogue
from p2pfl.learning.data import DataPlaces
from p2pfl.spec import RunSpec


@dataclass(frozen=True)
class Scaling:
    """How samples that are kept as bytes become what a model takes; on the device of the samples.

    Kept as float32 they would take four times the memory. Converting a batch takes little next to a step:
    see `tests/bench/README.md`.
    """

    factor: Tensor
    """[channels, 1, 1] float32."""
    offset: Tensor
    """[channels, 1, 1] float32."""

    @classmethod
    def normalising(cls, mean: Sequence[float], deviation: Sequence[float]) -> Scaling:
        """Return what gives bytes of this *mean* and *deviation*, shares of 255 by channel, 0 and 1."""
        means, deviations = (torch.tensor(values).reshape(-1, 1, 1) for values in (mean, deviation))
        return cls(1 / (255 * deviations), -means / deviations)

    def __call__(self, x: Tensor) -> Tensor:
        """Return the batch *x* [batch, channels, height, width] as float32."""
        return x.to(torch.float32).mul_(self.factor).add_(self.offset)

    def to(self, device: torch.device) -> Scaling:
        """Return the same on *device*."""
        return Scaling(self.factor.to(device), self.offset.to(device))


@dataclass(frozen=True)
class Data:
    """The data of a task, the same on every device, divided in training and test split."""

    train_x: Tensor
    """[samples, ...] what the model takes, float32; or, with a `scaling`, uint8."""
    train_y: Tensor
    """[samples] int64: indices into `classes`."""
    test_x: Tensor
    """[samples, ...] as `train_x`."""
    test_y: Tensor
    """[samples] as `train_y`."""
    classes: tuple[str, ...]
    """What the labels mean, for people."""
    scaling: Scaling | None = None
    """What is done to each batch before the model gets it; None: nothing."""

    def to(self, device: torch.device) -> Data:
        """Return the data on *device*; those already there are not copied."""
        return Data(
            self.train_x.to(device),
            self.train_y.to(device),
            self.test_x.to(device),
            self.test_y.to(device),
            self.classes,
            self.scaling.to(device) if self.scaling is not None else None,
        )


class Task(Protocol):
    """Classification: a model maps a sample to one logit a class, trained with cross-entropy."""

    def load(self, places: DataPlaces, /) -> Data:
        """Return the data, on the CPU; the split must not depend on the run.

        *places* says where this device's operator keeps data, for tasks whose data nothing else brings.

        Raises:
            TaskError: they are missing or damaged on this device.
        """

    def build(self, model: str) -> nn.Module:
        """Return a freshly initialised *model*, one of those in the catalogue, on the CPU.

        It draws its parameters from torch's default generator, which the caller has seeded.
        """


def load_task(spec: RunSpec) -> Task:
    """Return the task of *spec*.

    Raises:
        TaskError: the task, its model or the partition is unknown.
    """
    entry = catalogue.check(spec)
    return cast(Task, importlib.import_module(entry.module).TASK)
