"""Reports the progress of a training in the worker process, and ends a training that the node stopped."""

from __future__ import annotations

import time
from collections.abc import Callable

from p2pfl.learning import commands

PROGRESS_SECONDS = 0.25
"""Minimum interval of progress reports: a screen shows no more, and each report wakes up the node."""


class TrainingStoppedError(BaseException):
    """The node stopped this training. It is no `Exception`, which a loop of the user's own may catch."""


class Pacer:
    """Called after each batch: reports progress at most every `PROGRESS_SECONDS`; ends a stopped training."""

    def __init__(
        self, job: int, report: Callable[[commands.TrainJobProgress], None], is_stopped: Callable[[], bool]
    ) -> None:
        self._job = job
        self._report = report
        self._is_stopped = is_stopped
        self._started = time.monotonic()
        self._warm = self._started
        """Time of the end of the first batch. It warms up memory and kernels, so later predictions ignore
        it."""
        self._reported = self._started
        self.deadline = 0.0
        """Seconds after which the training ends with the batch that it is in; 0: never."""

    def __call__(self, done: int, total: int) -> None:
        """Note that *done* of *total* batches are done."""
        if self._is_stopped():
            raise TrainingStoppedError
        now = time.monotonic()
        if done == 1:
            self._warm = now
        # The second batch always reports, for an early prediction. The last does not: the answer follows.
        if done == total or (done != 2 and now - self._reported < PROGRESS_SECONDS):
            return
        self._reported = now
        rate = now - self._started if done == 1 else (now - self._warm) / (done - 1)
        predicted = now - self._started + rate * (total - done)
        if self.deadline:
            predicted = min(predicted, self.deadline + rate)
        self._report(commands.TrainJobProgress(self._job, done, total, predicted))
