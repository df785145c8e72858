"""The loops and the optimizer that a user's task may have in place of p2pfl's."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sized
from typing import Any, cast

import torch
from torch import nn

from p2pfl.learning.optimizers import MakeOptimizer, Optimizer
from p2pfl.learning.own.code import UserCode, a
from p2pfl.learning.own.data import CountedLoader, UserData, make_loader
from p2pfl.learning.own.interface import TrainSettings
from p2pfl.learning.own.objective import checked_metrics
from p2pfl.learning.training import EVALUATION_BATCH, NON_FINITE, AfterBatch
from p2pfl.messages import Evaluation
from p2pfl.spec import LocalTraining
from p2pfl.work import TrainingJob


class UserLoops:
    """Calls the loops of a user's task with the data of this device."""

    def __init__(
        self, code: UserCode, data: UserData, mapping: list[int] | None, device: torch.device, workers: int
    ) -> None:
        """Use *mapping*, the index of each local class in the agreement; None: all stay."""
        self._code = code
        self._data = data
        self._mapping = mapping
        self._device = device
        self._workers = workers

    def train(
        self,
        module: nn.Module,
        options: LocalTraining,
        round_number: int,
        seed: int,
        after_batch: AfterBatch,
    ) -> tuple[int, float]:
        """Train *module* with the user's loop; return the number of batches and the mean loss.

        Raises:
            TaskError: the loop fails or returns no number, or the loss is not finite.
        """
        hook = self._code.task.train
        assert hook is not None
        examples = len(cast(Sized, self._data.train))
        loader = make_loader(
            self._code,
            self._data.train,
            self._mapping,
            options.batch_size,
            shuffle=True,
            # Batch normalisation needs at least two examples.
            drop_last=examples > options.batch_size and examples % options.batch_size == 1,
            num_workers=self._workers,
            generator=torch.Generator().manual_seed(seed),
        )
        total = len(loader) * options.epochs
        assert isinstance(loader, CountedLoader)
        loader.after_batch = lambda done: after_batch(min(done, total), total)
        settings = TrainSettings(
            options.epochs, options.batch_size, options.learning_rate, round_number, seed, self._device
        )
        torch.manual_seed(seed)
        module.train()
        with self._code.calling("train"):
            returned = hook(module, loader, settings)
        loss = self._loss(returned)
        return max(1, loader.drawn), loss

    def evaluate(self, module: nn.Module) -> Evaluation:
        """Evaluate *module* with the user's loop.

        Raises:
            TaskError: the loop fails, or returns no numbers by name.
        """
        hook = self._code.task.evaluate
        assert hook is not None
        loader = make_loader(
            self._code, self._data.test, self._mapping, EVALUATION_BATCH, num_workers=self._workers
        )
        module.eval()
        with torch.no_grad(), self._code.calling("evaluate"):
            values = hook(module, loader)
        examples = len(cast(Sized, self._data.test))
        sums = {
            name: value * examples if math.isfinite(value * examples) else NON_FINITE
            for name, value in checked_metrics(self._code, "evaluate", values).items()
        }
        return Evaluation(examples, dict(sorted(sums.items())))

    def optimizer(self, job: TrainingJob) -> MakeOptimizer:
        """Return what makes the user's optimizer for *job*, with the learning rate of their scheduler.

        It raises:
            TaskError: a function of the user fails or returns something else.
        """
        task = self._code.task
        assert task.optimizer is not None
        hook = task.optimizer

        def make(parameters: list[nn.Parameter], options: LocalTraining) -> Optimizer:
            with self._code.calling("optimizer"):
                optimizer = hook(parameters, options.learning_rate)
            if not isinstance(optimizer, torch.optim.Optimizer):
                raise self._code.wrong(
                    "optimizer", f"returned {a(optimizer)}; return an optimizer of torch.optim"
                )
            if task.scheduler is not None:
                self._advance(optimizer, job.trained)
            return cast(Optimizer, optimizer)

        return make

    def _advance(self, optimizer: torch.optim.Optimizer, rounds: int) -> None:
        """Let the user's scheduler take a step for each of *rounds*: the optimizer is new in every round."""
        hook = self._code.task.scheduler
        assert hook is not None
        with self._code.calling("scheduler"), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that no optimizer step precedes
            scheduler = hook(optimizer)
            if not hasattr(scheduler, "step"):
                raise self._code.wrong(
                    "scheduler", f"returned {a(scheduler)}; return a scheduler of torch.optim.lr_scheduler"
                )
            for _ in range(rounds):
                scheduler.step()

    def _loss(self, returned: Any) -> float:
        """Return the mean loss that the user's loop *returned*; 0 if it returned none."""
        if returned is None:
            return 0.0
        try:
            loss = float(returned)
        except (TypeError, ValueError, RuntimeError):
            raise self._code.wrong(
                "train", f"returned {a(returned)}; return the mean loss, or None"
            ) from None
        if not math.isfinite(loss):
            raise self._code.wrong(
                "train", f"the training diverged: it returned the loss {loss}; use a smaller --lr"
            )
        return loss
