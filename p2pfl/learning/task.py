"""What a task must offer: its data and its models.

A task's module holds an instance named `TASK`; its name, models and defaults are in
`p2pfl.learning.catalogue`, which knows no torch.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from p2pfl.learning import catalogue
from p2pfl.messages import RunSpec


@dataclass(frozen=True)
class Data:
    """The data of a task, the same on every device, divided in training and test split."""

    train_x: Tensor
    """[samples, ...] what the model takes, float32."""
    train_y: Tensor
    """[samples] int64: indices into `classes`."""
    test_x: Tensor
    """[samples, ...] as `train_x`."""
    test_y: Tensor
    """[samples] as `train_y`."""
    classes: tuple[str, ...]
    """What the labels mean, for people."""

    def to(self, device: torch.device) -> Data:
        """Return the data on *device*; those already there are not copied."""
        return Data(
            self.train_x.to(device),
            self.train_y.to(device),
            self.test_x.to(device),
            self.test_y.to(device),
            self.classes,
        )


class Task(Protocol):
    """Classification: a model maps `train_x[i]` to one logit a class, trained with cross-entropy."""

    def load(self) -> Data:
        """Return the data, on the CPU; the split must not depend on the run.

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
