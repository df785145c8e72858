"""A worker without torch: it starts in a tenth of a second, and adds noise instead of training.

For tests in which the training does not matter. Commands, pipes, threads and files are those of the real
worker; the average is a weighted mean too. The model is one tensor with as many parameters as the model of
the quick runs.
"""

from __future__ import annotations

import argparse
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
from blake3 import blake3

from p2pfl.learning import commands, worker
from p2pfl.schema import TensorSpec, canonical, header

PARAMETERS = 55_210
TRAIN_SAMPLES, TEST_SAMPLES = 1437, 360
SCHEMA = canonical([TensorSpec("weight", "F32", (PARAMETERS,))])
CLASSES = tuple("0123456789")

Array = np.ndarray[tuple[int], np.dtype[np.float32]]


def read(path: str) -> Array:
    return np.fromfile(path, dtype="<f4", offset=len(header(SCHEMA)))


def write(path: str, weights: Array) -> str:
    """Write a model file; return its digest."""
    data = header(SCHEMA) + weights.astype("<f4").tobytes()
    Path(path).write_bytes(data)
    return blake3(data).hexdigest()


def read_model(command: commands.TrainJob | commands.EvaluateJob) -> np.ndarray:
    return read(command.model_path)


class LightJobs:
    """The `p2pfl.learning.worker.Doer` of this worker."""

    def __init__(self) -> None:
        self._sum = np.zeros(PARAMETERS)
        self._key, self._folds, self._weight = "", 0, 0

    def do(
        self,
        command: commands.Command,
        report: Callable[[commands.TrainJobProgress], None],
        is_stopped: Callable[[], bool],
    ) -> commands.Answer:
        """Execute *command*. A stop is ignored, since every command ends at once."""
        match command:
            case commands.DescribeJob():
                return commands.DescribeDone(
                    command.id, SCHEMA, TRAIN_SAMPLES, TEST_SAMPLES, CLASSES, PARAMETERS, "cpu"
                )
            case commands.CreateJob():
                weights = np.random.default_rng(command.spec.seed).normal(size=PARAMETERS)
                return commands.CreateDone(command.id, write(command.path, weights))
            case commands.TrainJob():
                report(commands.TrainJobProgress(command.id, 1, 1, 0.01))
                return self._train(command)
            case commands.EvaluateJob():
                loss = float(np.abs(read_model(command)).mean())
                return commands.EvaluateDone(command.id, 10, TEST_SAMPLES // command.parts, loss)
            case commands.Fold():
                return self._fold(command)
            case commands.Average():
                assert (self._key, self._folds) == (command.key, command.folds)
                return commands.Averaged(command.id, write(command.path, self._sum / self._weight))
            case _:
                raise AssertionError(f"a command of no test with a light worker: {command!r}")

    def _train(self, command: commands.TrainJob) -> commands.TrainDone:
        chance = np.random.default_rng((command.spec.seed, command.round, command.partition))
        digest = write(command.path, read_model(command) + 0.01 * chance.normal(size=PARAMETERS))
        samples = TRAIN_SAMPLES // command.spec.partitions
        labels = (samples, *(0 for _ in CLASSES[1:]))
        return commands.TrainDone(command.id, digest, samples, 1.0, 0.01, labels)

    def _fold(self, command: commands.Fold) -> commands.Folded:
        if command.key != self._key:
            self._sum = np.zeros(PARAMETERS)
            self._key, self._folds, self._weight = command.key, 0, 0
        self._sum += command.weight * read(command.path).astype(np.float64)
        self._folds, self._weight = self._folds + 1, self._weight + command.weight
        return commands.Folded(command.id)


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parser = argparse.ArgumentParser()
    parser.add_argument("--pace", type=float, default=0.0)
    pace = parser.parse_known_args()[0].pace
    source, sink = worker._take_pipes()
    inboxes, outbox, jobs = worker.Inboxes(), worker.Outbox(sink), LightJobs()
    for target, arguments in (
        (worker._read_and_exit, (source, inboxes)),
        (worker._beat, (outbox,)),
        (worker._do_all, (inboxes.summing, outbox, jobs)),
    ):
        threading.Thread(target=target, args=arguments, daemon=True).start()
    worker._do_all(inboxes.training, outbox, worker.PacedDoer(jobs, pace) if pace else jobs)


if __name__ == "__main__":
    main()
