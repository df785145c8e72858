"""The check of `p2pfl task`: trains a task or a script on this device alone, and prints what it sees."""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import typer

from p2pfl.agreement import merge_cards
from p2pfl.cards import Agreement, DataCard, metric_text
from p2pfl.errors import TaskError
from p2pfl.experiment.options import make_run
from p2pfl.learning.commands import DescribeDone
from p2pfl.learning.process import Worker, WorkerSettings, output_logger
from p2pfl.learning.scripts.child import ScriptRunner, script_logger
from p2pfl.learning.scripts.frames import NO_METRICS_GIVEN
from p2pfl.learning.scripts.trainer import TrainerServer, TrainerWorker
from p2pfl.learning.simulation.process import RoundDone, SimulationProcess
from p2pfl.learning.strategy_choice import choose_strategy
from p2pfl.messages import Evaluation
from p2pfl.schema import Schema, file_bytes
from p2pfl.spec import RunSpec, ScriptTask, task_name
from p2pfl.text import plural
from p2pfl.work import EvaluationJob, TrainingJob, TrainingResult

CHECK_STEPS = 20
"""Optimizer steps of a check: seconds for most models, and enough for a speed after the first, slow ones."""

SCRIPT_ROUNDS = 2
"""Rounds of the check of a script, whose loop decides how long each takes. A second one shows whether the
loop goes on from a model that it is given."""

STRATEGY_ROUNDS = 3
STRATEGY_CLIENTS = 5
"""The simulation that tries a strategy; with more clients where it needs more updates."""

WARNING = "warning     "
"""Begins the line of a warning."""

SHOWN_TENSORS = 12
"""Number of tensors that are listed; the others are counted."""

SHOWN_CLASSES = 20
"""Number of classes that are listed with their examples."""

SAMPLE_SECONDS = 0.1
"""Interval at which the memory of the worker is measured."""


@dataclass
class Memory:
    """The most memory that a process was seen to use, with the processes that it has started."""

    most_bytes: int = 0

    async def watch(self, pid: Callable[[], int | None]) -> None:
        """Measure the process *pid* until this task is cancelled."""
        while True:
            if (number := pid()) is not None:
                try:
                    process = psutil.Process(number)
                    used = sum(one.memory_info().rss for one in (process, *process.children(recursive=True)))
                    self.most_bytes = max(self.most_bytes, used)
                except psutil.Error:  # it has just ended
                    pass
            await asyncio.sleep(SAMPLE_SECONDS)


@dataclass
class CheckReport:
    """Prints what a check sees, and counts the warnings."""

    warnings: int = 0

    def say(self, line: str) -> None:
        """Print one line."""
        self.warnings += line.startswith(WARNING)
        typer.echo(line)


async def check_file(spec: RunSpec, settings: WorkerSettings, report: CheckReport) -> None:
    """Check a task file in a worker process of its own.

    Raises:
        TaskError: something is wrong with the task; the message says what, and in which line.
    """
    _show(output_logger)
    worker = Worker(settings)
    try:
        with tempfile.TemporaryDirectory(prefix="p2pfl-check-") as name:
            async with _measured(lambda: worker.pid, report):
                await _try_out(worker, spec, Path(name), 1, report)
    finally:
        await worker.close()


async def check_script(spec: RunSpec, words: tuple[str, ...], report: CheckReport) -> None:
    """Check the script *words*[0] with its arguments, as a child of this process.

    Raises:
        TaskError: the script fails; the message says where.
    """
    _show(script_logger)
    with tempfile.TemporaryDirectory(prefix="p2pfl-check-") as name:
        server = TrainerServer(task_name(spec.task))
        await server.open(Path(name))
        runner = ScriptRunner(words, server, on_end=server.refuse, on_failure=lambda _: None)
        try:
            async with _measured(lambda: runner.pid, report):
                runner.start()
                last = await _try_out(TrainerWorker(None, server), spec, Path(name), SCRIPT_ROUNDS, report)
                server.end_run(str(last))
                await runner.close()
        finally:
            await runner.close()
            await server.close("the check has ended")
        if runner.last_end:
            raise TaskError(f"After the last round, {runner.last_end}.")


def check_strategy(code: str, arguments: Sequence[str], report: CheckReport) -> None:
    """Check the strategy *code*, such as "mine.py:Cautious", in a short simulation on the digits.

    Raises:
        UserError: it cannot be used, or a round keeps its model; the message says why and where.
    """
    chosen = choose_strategy(code, arguments)
    args = chosen.options["strategy_arg"]
    clients = max(STRATEGY_CLIENTS, args["least"])
    options = {"rounds": STRATEGY_ROUNDS, "clients": clients, "partition": "iid", "workers": 1}
    run = make_run({**options, "strategy": code, "strategy_args": args["options"]})
    kept = f"; it keeps {', '.join(args['slots'])} of each element" if args["slots"] else ""
    report.say(f"strategy    {args['name']} needs {args['least']} {plural(args['least'], 'update')}{kept}")
    simulator = SimulationProcess()
    try:
        for answer in simulator.run(run):
            if not isinstance(answer, RoundDone):
                continue
            if answer.row.note:
                raise TaskError(f"In round {answer.row.round} the model stayed as it was: {answer.row.note}.")
            measured = ", ".join(f"{name} {metric_text(value)}" for name, value in answer.row.metrics.items())
            report.say(f"round {answer.row.round}     {measured}, with {clients} clients on the digits")
    finally:
        simulator.close()


@asynccontextmanager
async def _measured(pid: Callable[[], int | None], report: CheckReport) -> AsyncIterator[None]:
    """Print the most memory that the process *pid* has used inside the block."""
    memory = Memory()
    watch = asyncio.create_task(memory.watch(pid))
    try:
        yield
    finally:
        watch.cancel()
    report.say(f"memory      at most {_bytes(memory.most_bytes)}")


async def _try_out(
    worker: Worker | TrainerWorker, spec: RunSpec, folder: Path, rounds: int, report: CheckReport
) -> Path:
    """Do what a device does in a run that it trains alone, and print each result at once; return the model.

    Raises:
        TaskError: something is wrong with the task; the message says what, and in which line.
    """
    is_script = isinstance(spec.task, ScriptTask)
    described = await worker.describe(spec)
    for line in describe_card(described.card, described.test_examples, is_script=is_script):
        report.say(line)
    agreement, flaw = merge_cards(spec.task, {"this device": described.card})
    if agreement is None:
        raise TaskError(f"The data allow no run: {flaw}.")
    created = await worker.create(spec, agreement, folder / "initial")
    described = await worker.describe(spec, agreement)
    for line in describe_schema(created.schema, described.parameters):
        report.say(line)
    (folder / "initial").rename(folder / created.digest)
    model = created.digest
    for number in range(rounds):
        job = TrainingJob("check", number + 1, spec, agreement, model, 0, trained=number, rounds=rounds)
        trained = await worker.train(job, folder, folder / "update")
        assert trained is not None  # nobody stops it
        report.say(describe_training(trained, spec, described))
        if trained.digest == model:
            report.say(
                f"{WARNING}the training has changed no weight: does the optimizer have the parameters?"
            )
        (folder / "update").replace(folder / trained.digest)
        model = trained.digest
        await _evaluate(worker, spec, agreement, model, folder, report)
    return folder / model


async def _evaluate(
    worker: Worker | TrainerWorker,
    spec: RunSpec,
    agreement: Agreement,
    model: str,
    folder: Path,
    report: CheckReport,
) -> None:
    """Evaluate *model*, a file in *folder*, and print the result."""
    began = asyncio.get_running_loop().time()
    try:
        evaluation = await worker.evaluate(EvaluationJob("check", 1, spec, agreement, model, 0, 1), folder)
    except TaskError as error:
        if NO_METRICS_GIVEN not in str(error):
            raise
        report.say(f"{WARNING}{NO_METRICS_GIVEN}")
        return
    report.say(describe_evaluation(evaluation, asyncio.get_running_loop().time() - began))


def describe_card(card: DataCard, held_out: int, *, is_script: bool = False) -> list[str]:
    """Return what a device tells about its data, for people."""
    shape = "x".join(map(str, card.input_shape)) or "of varying shape"
    direction = {"max": "larger", "min": "smaller"}[card.measures.direction]
    data = f"{card.examples:,} examples to train, {held_out:,} held out; inputs {shape}"
    if is_script:
        data = f"the script's own; its metrics are of {held_out:,} {plural(held_out, 'example')}"
    lines = [
        f"data        {data}",
        f"measures    loss {card.measures.loss}; {', '.join(card.measures.metrics)}; models are compared by "
        f"{card.measures.primary}, {direction} is better",
    ]
    if card.labels:
        shown = [f"{count.label} ({count.examples:,})" for count in card.labels[:SHOWN_CLASSES]]
        more = f" and {len(card.labels) - SHOWN_CLASSES} more" if len(card.labels) > SHOWN_CLASSES else ""
        lines.insert(1, f"classes     {', '.join(shown)}{more}")
    lines += [f"{WARNING}{note}" for note in card.notes]
    return lines


def describe_schema(schema: Schema, parameters: int) -> list[str]:
    """Return what is exchanged in each round, for people."""
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
    if isinstance(spec.task, ScriptTask):
        rate = result.part.examples / max(result.seconds, 1e-9)
        return (
            f"training    {result.part.examples:,} {plural(result.part.examples, 'example')} in "
            f"{result.seconds:.2f} s on {described.device}: {rate:,.0f} examples/s; loss {result.loss:.4g}"
        )
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


def _show(output: logging.Logger) -> None:
    """Print what the user's code prints, and torch's warnings, on standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("  | %(message)s"))
    output.addHandler(handler)
    output.setLevel(logging.INFO)


def _bytes(count: int) -> str:
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"
