"""A worker without torch: it starts in a tenth of a second, and adds noise instead of training.

For tests in which the training does not matter. Commands, pipes, threads and files are those of the real
worker; the average is a weighted mean too. Unless it is given another schema, the model is one tensor with as
many parameters as the model of the quick runs.
"""

from __future__ import annotations

import argparse
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from p2pfl.cards import DataCard, LabelCount
from p2pfl.learning import commands, worker
from p2pfl.messages import ClassCount, Evaluation
from p2pfl.schema import Schema, TensorSpec, canonical, header
from p2pfl.spec import RunSpec, partitions_of, task_name
from p2pfl.work import AggregatedModel, TrainingResult

PARAMETERS = 55_210
TRAIN_SAMPLES, TEST_SAMPLES = 1437, 360
SCHEMA = canonical([TensorSpec("weight", "F32", (PARAMETERS,))])
CLASSES = tuple("0123456789")

Array = np.ndarray[tuple[int], np.dtype[np.float32]]


class LightJobs:
    """The `p2pfl.learning.worker.Doer` of this worker, with float32 tensors of *schema*."""

    def __init__(self, schema: Schema = SCHEMA) -> None:
        self._schema = schema
        self._parameters = sum(tensor.elements for tensor in schema)

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
                    command.id,
                    self._schema,
                    _card(command.spec, TRAIN_SAMPLES),
                    TEST_SAMPLES,
                    self._parameters,
                    "cpu",
                )
            case commands.CreateJob():
                weights = np.random.default_rng(command.spec.seed).normal(size=self._parameters)
                return commands.CreateDone(command.id, self._write(command.path, weights), self._schema)
            case commands.RunTraining():
                report(commands.TrainJobProgress(command.id, 1, 1, 0.01))
                return self._train(command)
            case commands.RunEvaluation():
                loss = float(np.abs(self._read_model(command)).mean())
                sums = {"accuracy": 10.0, "loss": loss}
                examples = TEST_SAMPLES // command.job.parts
                classes = (ClassCount(10, examples, examples), *(ClassCount(0, 0, 0) for _ in CLASSES[1:]))
                return commands.EvaluationDone(command.id, Evaluation(examples, sums, classes))
            case commands.RunAggregation():
                return self._aggregate(command)
            case _:
                raise AssertionError(f"a command of no test with a light worker: {command!r}")

    def _train(self, command: commands.RunTraining) -> commands.TrainingDone:
        job = command.job
        chance = np.random.default_rng((job.spec.seed, job.round, job.partition))
        noise = 0.01 * chance.normal(size=self._parameters)
        digest = self._write(command.path, self._read_model(command) + noise)
        part = _card(job.spec, TRAIN_SAMPLES // partitions_of(job.spec.task))
        return commands.TrainingDone(command.id, TrainingResult(digest, part, 1, 1.0, 0.01))

    def _aggregate(self, command: commands.RunAggregation) -> commands.AggregationDone:
        total = np.zeros(self._parameters)
        for update in command.job.updates:
            total += update.examples * self._read(f"{command.folder}/{update.digest}").astype(np.float64)
        mean = total / sum(update.examples for update in command.job.updates)
        return commands.AggregationDone(command.id, AggregatedModel(self._write(command.path, mean)))

    def _read_model(self, command: commands.RunTraining | commands.RunEvaluation) -> Array:
        return self._read(f"{command.folder}/{command.job.model}")

    def _read(self, path: str) -> Array:
        return np.fromfile(path, dtype="<f4", offset=len(header(self._schema)))

    def _write(self, path: str, weights: npt.NDArray[np.floating[Any]]) -> str:
        """Write a model file; return its digest."""
        data = header(self._schema) + weights.astype("<f4").tobytes()
        Path(path).write_bytes(data)
        return blake3(data).hexdigest()


def _card(spec: RunSpec, examples: int) -> DataCard:
    counts = (examples, *(0 for _ in CLASSES[1:]))
    labels = tuple(LabelCount(name, count) for name, count in zip(CLASSES, counts, strict=True))
    return DataCard(task_name(spec.task), examples, labels)


def main(jobs: LightJobs | None = None) -> None:
    """Run the worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parser = argparse.ArgumentParser()
    parser.add_argument("--pace", type=float, default=0.0)
    pace = parser.parse_known_args()[0].pace
    source, sink = worker._take_pipes()
    inboxes, outbox, jobs = worker.Inboxes(), worker.Outbox(sink), jobs or LightJobs()
    for target, arguments in (
        (worker._read_and_exit, (source, inboxes)),
        (worker._beat, (outbox,)),
        (worker._do_all, (inboxes.aggregating, outbox, jobs)),
    ):
        threading.Thread(target=target, args=arguments, daemon=True).start()
    worker._do_all(inboxes.training, outbox, worker.PacedDoer(jobs, pace) if pace else jobs)


if __name__ == "__main__":
    main()
