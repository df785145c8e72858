"""What a demo came to: the rounds, whether all hold the same model, how models trained alone compare.

All of it is read from the journals and blobs the nodes left behind, none from what they said while they ran.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from blake3 import blake3

from p2pfl.cli.history import accuracy_text
from p2pfl.errors import DataDirectoryError
from p2pfl.events import RoundRow
from p2pfl.learning.data import DataPlaces
from p2pfl.learning.process import Worker, WorkerSettings
from p2pfl.spec import RunSpec
from p2pfl.store.directory import DataDirectory
from p2pfl.store.reader import RunRow
from p2pfl.work import EvaluationJob

if TYPE_CHECKING:
    from rich.table import Table

SHORT = 12
"""Characters of a digest that people see."""


class JournalSummary(msgspec.Struct, frozen=True):
    """What one node's data directory holds of its newest run."""

    run: RunRow
    rounds: tuple[RoundRow, ...]
    slots: Mapping[str, int]
    """The data slot of each founding member, by name."""
    model: Path
    """The final model's file."""
    held: str
    """BLAKE3 of that file, computed now; empty where it is not there."""


class Lone(msgspec.Struct, frozen=True):
    """A model trained on one node's data only."""

    name: str
    samples: int
    accuracy: float


def read_journals(data_dirs: Mapping[str, Path]) -> dict[str, JournalSummary]:
    """Read the journals of the nodes that have been in a run, by name."""
    journals = {}
    for name, path in data_dirs.items():
        with contextlib.suppress(DataDirectoryError):  # a node that died early has none
            journal = _read(DataDirectory(path))
            if journal is not None:
                journals[name] = journal
    return journals


def _read(directory: DataDirectory) -> JournalSummary | None:
    with directory.read_journal() as reader:
        runs = reader.runs()
        if not runs:
            return None
        run = runs[-1]
        genesis = reader.genesis(run.run)
        rounds = tuple(reader.rounds(run.run))
    assert genesis is not None
    model = directory.read_blobs().path(rounds[-1].digest if rounds else genesis.model)
    held = blake3().update_mmap(model).hexdigest() if model.is_file() else ""
    return JournalSummary(run, rounds, {entry.name: entry.slot for entry in genesis.roster}, model, held)


def disagreements(journals: Mapping[str, JournalSummary]) -> list[str]:
    """Return a sentence for each thing in which two of *journals* differ that must be the same."""
    found = []
    first: dict[tuple[str, int], tuple[str, RoundRow]] = {}
    for name, journal in journals.items():
        for row in journal.rounds:
            other, there = first.setdefault((row.run, row.round), (name, row))
            if (there.record, there.digest) != (row.record, row.digest):
                found.append(
                    f"round {row.training_round}: {other} has model {there.digest[:SHORT]}, "
                    f"{name} {row.digest[:SHORT]}"
                )
        if journal.run.ended and journal.held != journal.rounds[-1].digest:
            found.append(f"{name} does not hold the final model {journal.rounds[-1].digest[:SHORT]}")
    runs = sorted({journal.run.run for journal in journals.values()})
    if len(runs) > 1:
        found.append(f"the nodes are in different runs: {', '.join(run[:SHORT] for run in runs)}")
    return found


def round_table(rounds: Sequence[RoundRow]) -> Table:
    """Return the table of the training rounds."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from p2pfl.text import one_line

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("round", justify="right")
    table.add_column("aggregator", no_wrap=True, max_width=20)
    for heading in ("updates", "accuracy", "loss", "seconds"):
        table.add_column(heading, justify="right")
    for row in rounds:
        if row.kind == "train":
            table.add_row(
                str(row.training_round),
                Text(one_line(row.aggregator)),
                f"{len(row.updates)} of {len(row.members)}",
                accuracy_text(row),
                "-" if row.loss is None else f"{row.loss:.4f}",
                f"{row.seconds:.1f}" if row.seconds else "-",
            )
    return table


class Comparison(msgspec.Struct, frozen=True):
    """The federated model and those trained alone for as many epochs, all on the whole test split."""

    federated: float
    """Accuracy."""
    lone: tuple[Lone, ...]
    epochs: int

    def lines(self) -> list[str]:
        """Say how they compare."""
        best = max(self.lone, key=lambda one: one.accuracy)
        mean = sum(one.accuracy for one in self.lone) / len(self.lone)
        gain = 100 * (self.federated - best.accuracy)
        verdict = f"{gain:.1f} points above the best lone one" if gain > 0 else "not above the best lone one"
        return [
            f"federated model           {self.federated:.4f}   {verdict}",
            f"best model trained alone  {best.accuracy:.4f}   "
            f"{best.name}: {best.samples} samples, {self.epochs} epochs",
            f"mean of {len(self.lone)} trained alone   {mean:.4f}",
        ]


async def fetch_data(spec: RunSpec, places: DataPlaces) -> None:
    """Let a worker load the data of *spec* once, which downloads them if they are missing.

    Raises:
        WorkerError: the worker process failed.
        TaskError: they cannot be had.
    """
    worker = Worker(WorkerSettings(device="cpu", threads=1, places=places))
    try:
        await worker.describe(spec)
    finally:
        await worker.close()


async def compare(
    journal: JournalSummary,
    places: DataPlaces,
    on_progress: Callable[[str, float], None],
    on_lone: Callable[[Lone], None] = lambda _: None,
) -> Comparison:
    """Evaluate the final model of *journal*, and models trained on each founding member's data alone.

    *places* is where data sets are; *on_progress* gets a node's name and the share of its training that is
    done, *on_lone* each result.

    Raises:
        WorkerError: the worker process failed.
        TaskError: its task cannot be loaded.
    """
    spec = msgspec.structs.replace(journal.run.spec, rounds=journal.run.trained)
    worker = Worker(WorkerSettings(device="cpu", threads=1, places=places))
    try:
        job = EvaluationJob("", spec.rounds, spec, journal.model.name, 0, 1)
        result = await worker.evaluate(job, journal.model.parent)
        lone = []
        for name, slot in journal.slots.items():
            lone.append(await _alone(worker, spec, name, slot, on_progress))
            on_lone(lone[-1])
    finally:
        await worker.close()
    return Comparison(
        result.sums["accuracy"] / result.examples, tuple(lone), spec.rounds * spec.training.epochs
    )


async def _alone(
    worker: Worker, spec: RunSpec, name: str, slot: int, on_progress: Callable[[str, float], None]
) -> Lone:
    on_progress(name, 0.0)
    result = await worker.alone(
        spec,
        slot % spec.task.partitions,
        lambda progress: on_progress(name, progress.done / max(1, progress.total)),
    )
    assert result is not None, "nobody stops it"
    return Lone(name, result.samples, result.sums["accuracy"] / result.examples)
