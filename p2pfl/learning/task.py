"""The interface of a task: its data and its models.

A task's module defines an instance named `TASK`. Its name, models and defaults are in
`p2pfl.learning.catalogue`, which does not import torch.
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
    """Conversion of uint8 images to a model's float32 input; its tensors are on the device of the images.

    Images stay uint8 in memory: as float32 they would take four times as much. The conversion of a batch is
    cheap next to an optimizer step (`tests/bench/README.md`).
    """

    factor: Tensor
    """[channels, 1, 1] float32."""
    offset: Tensor
    """[channels, 1, 1] float32."""

    @classmethod
    def normalising(cls, mean: Sequence[float], deviation: Sequence[float]) -> Scaling:
        """Return the scaling to mean 0 and standard deviation 1.

        *mean* and *deviation* are those of the images by channel, divided by 255.
        """
        means, deviations = (torch.tensor(values).reshape(-1, 1, 1) for values in (mean, deviation))
        return cls(1 / (255 * deviations), -means / deviations)

    def __call__(self, x: Tensor) -> Tensor:
        """Return the batch *x*, uint8 [batch, channels, height, width], scaled to float32."""
        return x.to(torch.float32).mul_(self.factor).add_(self.offset)

    def to(self, device: torch.device) -> Scaling:
        """Return this scaling on *device*."""
        return Scaling(self.factor.to(device), self.offset.to(device))


@dataclass(frozen=True)
class Data:
    """The training and test split of a task; the same on every device."""

    train_x: Tensor
    """[examples, ...] float32, the input of the model; uint8 if there is a `scaling`."""
    train_y: Tensor
    """[examples] int64: indices into `classes`."""
    test_x: Tensor
    """[examples, ...] of the same dtype as `train_x`."""
    test_y: Tensor
    """[examples] int64: indices into `classes`."""
    classes: tuple[str, ...]
    """Names of the classes, in the order of the labels."""
    scaling: Scaling | None = None
    """Applied to each batch before the model; None: batches are used as they are."""

    def to(self, device: torch.device) -> Data:
        """Return the data on *device*; tensors that are already there are not copied."""
        return Data(
            self.train_x.to(device),
            self.train_y.to(device),
            self.test_x.to(device),
            self.test_y.to(device),
            self.classes,
            self.scaling.to(device) if self.scaling is not None else None,
        )


class CatalogueTask(Protocol):
    """A classification task.

    Models map inputs [batch, ...] to logits [batch, classes]; the loss is cross-entropy.
    """

    def load(self, places: DataPlaces, /) -> Data:
        """Return the data, on the CPU. The same in every run and on every device.

        *places* says where this device keeps data sets; tasks with bundled data ignore it.

        Raises:
            TaskError: the data are missing or damaged on this device.
        """

    def build(self, model: str) -> nn.Module:
        """Return a freshly initialised *model*, a name from the catalogue, on the CPU.

        The caller has seeded torch's default generator, from which the parameters are drawn.
        """


def load_task(spec: RunSpec) -> CatalogueTask:
    """Return the task of *spec*.

    Raises:
        TaskError: the task, its model or the partition is unknown.
    """
    return task_of(catalogue.check(spec))


def task_of(entry: catalogue.TaskEntry) -> CatalogueTask:
    """Return the task of *entry*."""
    return cast(CatalogueTask, importlib.import_module(entry.module).TASK)
