"""Devices that train a user's task file in this process."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent
from typing import Any

from p2pfl.agreement import merge_cards, misfit
from p2pfl.cards import Agreement, DataCard
from p2pfl.learning import commands
from p2pfl.learning.data import DataPlaces
from p2pfl.learning.jobs import Jobs
from p2pfl.messages import Evaluation
from p2pfl.spec import RunSpec, from_options
from p2pfl.work import EvaluationJob, TrainingJob, TrainingResult

MEDIAN = """
import p2pfl

class Median(p2pfl.Elementwise):
    least_updates = 3

    def combine(self, parent, updates, weights, state):
        return updates.matrix().median(dim=0).values, state
"""
"""A strategy of a user's own."""


def file_spec(**changes: Any) -> RunSpec:
    """Return the spec of a short run of a task file, with *changes*."""
    options: dict[str, Any] = {
        "kind": "file",
        "task": "mine",
        "rounds": 3,
        "epochs": 1,
        "batch_size": 16,
        "learning_rate": 0.05,
        "momentum": 0.9,
        "weight_decay": 0.0,
        "seed": 7,
        "sample": 0,
        "min_updates": 1,
        "round_cap": 60.0,
        "drop_after": 60.0,
    }
    return from_options(**{**options, **changes})


def write_task(folder: Path, source: str, name: str = "mine.py") -> Path:
    """Write a task file; its first line is the first line of *source* that is not empty."""
    path = folder / name
    path.write_text(dedent(source).lstrip("\n"), encoding="utf-8")
    return path


class Device:
    """A device with a task file, and what it makes."""

    def __init__(self, file: Path | str, folder: Path, spec: RunSpec | None = None, **places: Any) -> None:
        self.spec = spec or file_spec()
        self.folder = folder
        self.jobs = Jobs("cpu", places=DataPlaces(code=str(file), **places))
        self.progress: list[commands.TrainJobProgress] = []
        self.stopped = False

    def do(self, command: commands.Command) -> commands.Answer:
        return self.jobs.do(command, self.progress.append, lambda: self.stopped)

    def describe(self, agreement: Agreement | None = None) -> commands.DescribeDone:
        answer = self.do(commands.DescribeJob(1, self.spec, agreement))
        assert isinstance(answer, commands.DescribeDone)
        return answer

    @property
    def card(self) -> DataCard:
        return self.describe().card

    def create(self, agreement: Agreement) -> str:
        """Make the initial model; return its digest, which is the name of its file."""
        answer = self.do(commands.CreateJob(2, self.spec, agreement, str(self.folder / "new")))
        assert isinstance(answer, commands.CreateDone)
        (self.folder / "new").rename(self.folder / answer.digest)
        return answer.digest

    def train(
        self, agreement: Agreement, model: str, number: int = 1, part: int = 0, memory: str = ""
    ) -> TrainingResult:
        job = TrainingJob(
            "run", number, self.spec, agreement, model, part, number - 1, self.spec.rounds, memory=memory
        )
        answer = self.do(commands.RunTraining(3, job, str(self.folder), str(self.folder / "new")))
        assert isinstance(answer, commands.TrainingDone)
        (self.folder / "new").rename(self.folder / answer.result.digest)
        return answer.result

    def evaluate(
        self, agreement: Agreement, model: str, part: int = 0, parts: int = 1, memory: str = ""
    ) -> Evaluation:
        job = EvaluationJob("run", 1, self.spec, agreement, model, part, parts, memory)
        answer = self.do(commands.RunEvaluation(4, job, str(self.folder)))
        assert isinstance(answer, commands.EvaluationDone)
        return answer.result

    def train_alone(self, rounds: int = 1) -> tuple[Evaluation, list[TrainingResult]]:
        """Do what a device does in a run of its own; return the last model's evaluation."""
        agreement = agree(self)
        model, results = self.create(agreement), []
        for number in range(1, rounds + 1):
            results.append(self.train(agreement, model, number))
            model = results[-1].digest
        return self.evaluate(agreement, model), results


def agree(*devices: Device) -> Agreement:
    """Return the agreement of *devices*, which are called "a", "b" and so on."""
    cards = {chr(ord("a") + index): device.card for index, device in enumerate(devices)}
    agreement, flaw = merge_cards(devices[0].spec.task, cards)
    assert agreement is not None, flaw
    for device, card in zip(devices, cards.values(), strict=True):
        assert misfit(device.spec.task, agreement, card) == ""
    return agreement
