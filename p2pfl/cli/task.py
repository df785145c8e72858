"""`p2pfl task`: writes a task file to begin with, and checks one on this device alone."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import p2pfl

if TYPE_CHECKING:
    from p2pfl.cards import DataCard
    from p2pfl.learning.commands import DescribeDone
    from p2pfl.learning.process import Worker, WorkerSettings
    from p2pfl.messages import Evaluation
    from p2pfl.schema import Schema
    from p2pfl.spec import RunSpec
    from p2pfl.work import TrainingResult

CHECK_STEPS = 20
"""Optimizer steps of a check: seconds for most models, and enough for a speed after the first, slow ones."""

SHOWN_TENSORS = 12
"""Number of tensors that are listed; the others are counted."""

SHOWN_CLASSES = 20
"""Number of classes that are listed with their examples."""

SAMPLE_SECONDS = 0.1
"""Interval at which the memory of the worker is measured."""


class Kind(StrEnum):
    """The templates; each is a file in `p2pfl.learning.own.templates`."""

    CLASSIFICATION = "classification"
    REGRESSION = "regression"
    SEGMENTATION = "segmentation"
    TEXT = "text"
    SCRIPT = "script"
    STRATEGY = "strategy"


app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Write a task file of your own to begin with, or check one on this device alone.",
)


@app.command()
def new(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write, such as my_task.py.")],
    kind: Annotated[
        Kind,
        typer.Option(
            "--kind",
            help="What the task is; or script: a training loop of your own; or strategy: how updates are "
            "aggregated.",
        ),
    ] = Kind.CLASSIFICATION,
) -> None:
    """Write a short task file that runs as it is, to be changed."""
    from p2pfl.errors import UserError

    template = Path(p2pfl.__file__).parent / "learning" / "own" / "templates" / f"{kind.value}.py"
    if file.suffix != ".py":
        raise UserError(f"a task is a Python file, and {file} does not end in .py: choose another name")
    text = template.read_text(encoding="utf-8").replace("FILE", file.name)
    try:
        with file.open("x", encoding="utf-8") as out:
            out.write(text)
    except FileExistsError:
        raise UserError(f"{file} exists and is not overwritten: choose another name") from None
    steps = {Kind.SCRIPT: f"demo --task {file}", Kind.STRATEGY: f"demo --strategy {file}:Careful"}
    step = steps.get(kind, f"task check {file}")
    typer.echo(f"Wrote {file} ({kind.value}). Next: `p2pfl {step}`, and then change it.")


@app.command()
def check(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="The task file, or package.module:object of a p2pfl.Task.")
    ],
    data: Annotated[
        Path | None, typer.Option("--data", metavar="PATH", help="The data of this device.")
    ] = None,
    classes: Annotated[
        str, typer.Option("--classes", metavar="A,B", help="The classes of all devices, in order.")
    ] = "",
    workers: Annotated[
        int, typer.Option("--workers", metavar="N", min=0, help="Processes that load examples.")
    ] = 0,
    device: Annotated[
        str, typer.Option("--device", metavar="auto|cpu|cuda|mps", help="Where to train.")
    ] = "auto",
    batch_size: Annotated[
        int, typer.Option("--batch-size", metavar="N", min=1, help="Local batch size.")
    ] = 32,
    lr: Annotated[float, typer.Option("--lr", metavar="RATE", help="Learning rate.")] = 0.01,
) -> None:
    """Load data and model of a task, train and evaluate a few steps, and say what is wrong."""
    from p2pfl.errors import UserError
    from p2pfl.learning.choice import choose, make_spec
    from p2pfl.learning.data import DataPlaces
    from p2pfl.learning.process import WorkerSettings
    from p2pfl.paths import full

    names = tuple(name.strip() for name in classes.split(",") if name.strip())
    choice = choose(file, None, DataPlaces(own=data and full(data), classes=names, loader_workers=workers))
    if choice.kind == "script":
        raise UserError(
            f"{file} trains in a loop of its own, which can only be checked by running it: "
            f"`p2pfl demo --task {file}` does so on this machine"
        )
    if choice.kind != "file":
        raise UserError(f"{file} is no task file: its name must end in .py, or be package.module:object")
    given = {"steps": CHECK_STEPS, "batch_size": batch_size, "learning_rate": lr, "seed": 0}
    spec = make_spec(choice, given)
    asyncio.run(_check(spec, WorkerSettings(device=device, places=choice.places)))
    typer.echo("Nothing is wrong.")


@dataclass
class Memory:
    """The most memory that a process was seen to use, with the processes that it has started."""

    most_bytes: int = 0

    async def watch(self, worker: Worker) -> None:
        """Measure the process of *worker* until this task is cancelled."""
        import psutil

        while True:
            if worker.pid is not None:
                try:
                    process = psutil.Process(worker.pid)
                    used = sum(one.memory_info().rss for one in (process, *process.children(recursive=True)))
                    self.most_bytes = max(self.most_bytes, used)
                except psutil.Error:  # it has just ended
                    pass
            await asyncio.sleep(SAMPLE_SECONDS)


async def _check(spec: RunSpec, settings: WorkerSettings) -> None:
    """Do what a device does in a run that it trains alone, and print each result at once.

    Raises:
        TaskError: something is wrong with the task; the message says what, and in which line.
    """
    import tempfile

    from p2pfl.agreement import merge_cards
    from p2pfl.errors import TaskError
    from p2pfl.learning.process import Worker
    from p2pfl.work import EvaluationJob, TrainingJob

    _show_output_of_the_task()
    worker, memory = Worker(settings), Memory()
    watch = asyncio.create_task(memory.watch(worker))
    try:
        with tempfile.TemporaryDirectory(prefix="p2pfl-check-") as name:
            folder = Path(name)
            described = await worker.describe(spec)
            for line in describe_card(described.card, described.test_examples):
                typer.echo(line)
            agreement, flaw = merge_cards(spec.task, {"this device": described.card})
            if agreement is None:
                raise TaskError(f"The data allow no run: {flaw}.")
            created = await worker.create(spec, agreement, folder / "initial")
            described = await worker.describe(spec, agreement)
            for line in describe_schema(created.schema, described.parameters):
                typer.echo(line)
            (folder / "initial").rename(folder / created.digest)
            job = TrainingJob("check", 1, spec, agreement, created.digest, 0)
            trained = await worker.train(job, folder, folder / "update")
            assert trained is not None  # nobody stops it
            typer.echo(describe_training(trained, spec, described))
            (folder / "update").rename(folder / trained.digest)
            judged = EvaluationJob("check", 1, spec, agreement, trained.digest, 0, 1)
            began = asyncio.get_running_loop().time()
            evaluation = await worker.evaluate(judged, folder)
            typer.echo(describe_evaluation(evaluation, asyncio.get_running_loop().time() - began))
            typer.echo(f"memory      at most {_bytes(memory.most_bytes)}")
    finally:
        watch.cancel()
        await worker.close()


def describe_card(card: DataCard, held_out: int) -> list[str]:
    """Return what a device tells about its data, for people."""
    shape = "x".join(map(str, card.input_shape)) or "of varying shape"
    direction = {"max": "larger", "min": "smaller"}[card.measures.direction]
    lines = [
        f"data        {card.examples:,} examples to train, {held_out:,} held out; inputs {shape}",
        f"measures    loss {card.measures.loss}; {', '.join(card.measures.metrics)}; models are compared by "
        f"{card.measures.primary}, {direction} is better",
    ]
    if card.labels:
        shown = [f"{count.label} ({count.examples:,})" for count in card.labels[:SHOWN_CLASSES]]
        more = f" and {len(card.labels) - SHOWN_CLASSES} more" if len(card.labels) > SHOWN_CLASSES else ""
        lines.insert(1, f"classes     {', '.join(shown)}{more}")
    lines += [f"warning     {note}" for note in card.notes]
    return lines


def describe_schema(schema: Schema, parameters: int) -> list[str]:
    """Return what is exchanged in each round, for people."""
    from p2pfl.schema import file_bytes

    lines = [
        f"model       {parameters:,} parameters that train; {len(schema)} tensors, "
        f"{_bytes(file_bytes(schema))} in each update"
    ]
    width = max(len(spec.name) for spec in schema[:SHOWN_TENSORS])
    for spec in schema[:SHOWN_TENSORS]:
        shape = "x".join(map(str, spec.shape)) or "scalar"
        lines.append(f"              {spec.name:<{width}}  {spec.dtype:<4}  {shape}")
    if len(schema) > SHOWN_TENSORS:
        lines.append(f"              and {len(schema) - SHOWN_TENSORS} more")
    return lines


def describe_training(result: TrainingResult, spec: RunSpec, described: DescribeDone) -> str:
    """Return the speed of a training, for people."""
    seen = result.steps * min(spec.training.batch_size, described.card.examples)
    rate = seen / max(result.seconds, 1e-9)
    return (
        f"training    {result.steps} steps in {result.seconds:.2f} s on {described.device}: {rate:,.0f} "
        f"examples/s; mean loss {result.loss:.4g}"
    )


def describe_evaluation(evaluation: Evaluation, seconds: float) -> str:
    """Return the metrics of an evaluation, for people."""
    metrics = ", ".join(f"{name} {value:.4g}" for name, value in evaluation.metrics.items())
    rate = evaluation.examples / max(seconds, 1e-9)
    return f"evaluation  {evaluation.examples:,} examples, {rate:,.0f} examples/s: {metrics}"


def _show_output_of_the_task() -> None:
    """Print what the user's code prints, and torch's warnings, on standard error."""
    from p2pfl.learning.process import output_logger

    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("  | %(message)s"))
    output_logger.addHandler(handler)
    output_logger.setLevel(logging.INFO)


def _bytes(count: int) -> str:
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"
