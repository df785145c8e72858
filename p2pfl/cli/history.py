"""`p2pfl history` and `p2pfl export`: read data directories, also while their nodes run.

Both only read: they take no lock and change no file of the node. Heavy modules are imported when a command
runs, since `p2pfl --help` must not wait for them.
"""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from p2pfl import __version__
from p2pfl.exit_codes import ExitCode
from p2pfl.report.runs import SHORT, choose_run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from p2pfl.events import RoundRow
    from p2pfl.store.blobs import BlobReader
    from p2pfl.store.reader import JournalReader, RunRow

MAX_FAULT = 600
"""Most characters of a fault's line: names in a damaged journal may be anything."""

MAX_NOTE = 300
"""Most characters of a note about the data; the names in it come from other devices."""

DataDirOption = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        metavar="DIR",
        help="The node's data directory (none: your only one); the node may be running.",
    ),
]
RunOption = Annotated[
    str | None,
    typer.Option(
        "--run", metavar="ID", help="Show this run instead of the newest: the first characters of its id."
    ),
]


def history(
    data_dirs: Annotated[
        list[Path] | None,
        typer.Option(
            "--data-dir",
            metavar="DIR",
            help="The node's data directory (none: your only one); the node may be running. With --verify, "
            "any number of them.",
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line, one line a round.")] = False,
    run: RunOption = None,
    csv: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", help="Write a table for a spreadsheet instead.")
    ] = None,
    jsonl: Annotated[
        Path | None,
        typer.Option("--jsonl", metavar="FILE", help="Write the output of --json to FILE instead."),
    ] = None,
    svg: Annotated[
        Path | None,
        typer.Option(
            "--svg", metavar="FILE", help="Write a plot of the primary metric and the loss instead."
        ),
    ] = None,
    png: Annotated[
        Path | None,
        typer.Option(
            "--png",
            metavar="FILE",
            help="Write a plot of the primary metric and the loss with joins and losses of members instead; "
            "needs the extra plots.",
        ),
    ] = None,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify", help="Verify journals and models, each by itself and against each other, instead."
        ),
    ] = False,
) -> None:
    """Show the committed training rounds of a run, or verify the data directories."""
    from p2pfl.cli.settings import data_dir_here
    from p2pfl.errors import UserError
    from p2pfl.observe.target import find_data_dir

    files = {"csv": csv, "jsonl": jsonl, "svg": svg, "png": png}
    writes = any(path is not None for path in files.values())
    if verify and (json or writes or run is not None):
        raise UserError(
            "--verify checks every run and prints a report: leave --json, --csv, --jsonl, --svg, --png and "
            "--run out"
        )
    if json and writes:
        raise UserError(
            "--json prints the rounds and --csv, --jsonl, --svg and --png write them to files: give either"
        )
    data_dirs = data_dirs or [data_dir_here() or find_data_dir()]
    if verify:
        _verify(data_dirs)
        return
    if len(data_dirs) > 1:
        raise UserError("only --verify takes several data directories; give one --data-dir")
    if writes:
        _write(data_dirs[0], run, files)
    else:
        show(data_dirs[0], json=json, run=run)


def _verify(directories: list[Path]) -> None:
    """Check *directories* and print what was found.

    Raises:
        typer.Exit: something is wrong.
    """
    from p2pfl.store.verify import verify
    from p2pfl.text import one_line

    findings = verify(directories)
    for fault in findings.faults:
        typer.echo(f"✗ {one_line(str(fault), MAX_FAULT)}")
    typer.echo(
        f"Checked {_count(findings.directories, 'data directory', 'data directories')}: "
        f"{_count(findings.runs, 'run', 'runs')}, {_count(findings.records, 'record', 'records')} with their "
        f"quorums and votes, {_count(findings.blobs, 'model', 'models')} read from end to end."
    )
    if not findings.is_clean:
        typer.echo(f"{_count(len(findings.faults), 'fault', 'faults')} found, see above.")
        raise typer.Exit(ExitCode.FAILED)
    typer.echo("Nothing is wrong.")


def _count(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"


def show(data_dir: Path, *, json: bool = False, run: str | None = None) -> None:
    """Print the committed training rounds of a run, the newest unless *run* begins another one's id.

    Raises:
        UserError: there is no journal, or no such run in it.
    """
    with _journal(data_dir) as journal:
        rows = journal.runs()
        chosen = choose_run(rows, run, data_dir)
        every = journal.rounds(chosen.run, counts_classes=json)
        rounds = [row for row in every if row.kind == "train"]
        if json:
            from p2pfl.report.table import json_line

            for row in rounds:
                typer.echo(json_line(row))
            return
        _show(chosen, rounds, others=len(rows) - 1)


def _write(data_dir: Path, run: str | None, files: Mapping[str, Path | None]) -> None:
    """Write the committed training rounds of a run to *files*, given by format.

    Raises:
        UserError: there is no journal, no such run in it, or a file cannot be written.
    """
    from p2pfl.report.figures import history_png
    from p2pfl.report.files import write_report
    from p2pfl.report.plot import svg
    from p2pfl.report.table import csv_text, jsonl_text

    with _journal(data_dir) as journal:
        chosen = choose_run(journal.runs(), run, data_dir)
        every = journal.rounds(chosen.run, counts_classes=files["jsonl"] is not None)
        rounds = [row for row in every if row.kind == "train"]
    forms: dict[str, Callable[[list[RoundRow]], str | bytes]] = {
        "csv": csv_text,
        "jsonl": jsonl_text,
        "svg": svg,
        "png": history_png,
    }
    for form, path in files.items():
        if path is not None:
            write_report(path, forms[form](rounds))
            typer.echo(f"Wrote {path}: {len(rounds)} rounds of run {chosen.run[:SHORT]}")


def export(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE.safetensors", help="Where to write the model; may be left out with --onnx."
        ),
    ] = None,
    data_dir: DataDirOption = None,
    round_: Annotated[
        int | None,
        typer.Option("--round", metavar="N", help="The model of this round instead of the last one."),
    ] = None,
    best: Annotated[
        bool, typer.Option("--best", help="The model with the best primary metric, such as accuracy.")
    ] = False,
    personal: Annotated[
        bool,
        typer.Option(
            "--personal", help="The personal model of this device (Ditto) in place of the common one."
        ),
    ] = False,
    run: RunOption = None,
    onnx: Annotated[
        Path | None,
        typer.Option("--onnx", metavar="FILE", help="Write the model for ONNX too; needs the extra onnx."),
    ] = None,
    torchscript: Annotated[
        Path | None, typer.Option("--torchscript", metavar="FILE", help="Write the model as TorchScript too.")
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(
            "--task", metavar="FILE", help="The file that defines the model, for --onnx and --torchscript."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that exist.")] = False,
) -> None:
    """Copy a committed model from a data directory to a safetensors file."""
    import msgspec

    from p2pfl.cli.settings import data_dir_here
    from p2pfl.errors import UserError
    from p2pfl.learning.exports.judging import Converted, ConvertModel, ask, code_of, path_of
    from p2pfl.learning.exports.model_info import describe_model
    from p2pfl.observe.target import find_data_dir
    from p2pfl.store.directory import DataDirectory
    from p2pfl.store.export import export_blob
    from p2pfl.strategy_specs import DittoSpec

    if file is None and onnx is None and torchscript is None:
        raise UserError("where to? Name a file, for example `p2pfl export model.safetensors`")
    data_dir = data_dir or data_dir_here() or find_data_dir()
    if best and round_ is not None:
        raise UserError("--best and --round each name a model; give one of them")
    with _journal(data_dir) as journal:
        chosen = choose_run(journal.runs(), run, data_dir)
        blobs = DataDirectory(data_dir).read_blobs()
        row = _pick(journal, blobs, chosen, round_, best)
        genesis = journal.genesis(chosen.run)
        assert genesis is not None
        if personal and not isinstance(genesis.spec.strategy, DittoSpec):
            raise UserError(
                "--personal exports the personal model of a run with --strategy ditto, and run "
                f"{chosen.run[:SHORT]} has none: leave it out"
            )
        is_own = personal or bool(genesis.spec.personalisation.personal)
        memory = _memory(journal, blobs, row) if is_own else None
    with contextlib.ExitStack() as stack:
        if file is None:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="p2pfl-export-"))
            target = Path(folder) / "model.safetensors"
        else:
            target = file
        info = msgspec.structs.replace(describe_model(genesis, row, __version__), is_personal=personal)
        source = blobs.path(row.digest)
        export_blob(
            source,
            genesis.layout,
            target,
            force=force,
            metadata=info.metadata(),
            personal=memory,
            is_ditto=personal,
            lora_scale=genesis.spec.lora_scale,
        )
        described = f"{'the personal model of this device, ' if personal else ''}{_described(row)}"
        if file is not None:
            typer.echo(f"Wrote {file}: {described}")
        if onnx is not None or torchscript is not None:
            request = ConvertModel(str(target), code_of(task), path_of(onnx), path_of(torchscript), force)
            for answer in ask(request):
                if isinstance(answer, Converted):
                    typer.echo(f"Wrote {answer.path}: {described}")


def _memory(journal: JournalReader, blobs: BlobReader, row: RoundRow) -> Path:
    """Return the file with what is personal of this device for the model of *row*."""
    from p2pfl.errors import UserError
    from p2pfl.store.export import personal_file

    updates = [
        update.digest
        for round_, _, commit in journal.commits(row.run)
        if round_ <= row.round
        for update in commit.record.updates
    ]
    found = personal_file(blobs.directory, row.run, reversed(updates))
    if found is None:
        raise UserError(
            f"what is personal of run {row.run[:SHORT]} is not here, since this device has not trained "
            "in it: export the model on a device that has"
        )
    return found


def _described(row: RoundRow) -> str:
    """Return which model *row* has, and how good it is."""
    from p2pfl.cards import metric_text
    from p2pfl.text import one_line

    value = row.primary_value
    result = f"{one_line(row.primary)} {'unknown' if value is None else metric_text(value)}"
    if value is not None and not row.committed:
        result += f" as {len(row.scores)} of {len(row.members)} members reported"
    return f"round {row.training_round} of run {row.run[:SHORT]}, {result}, model {row.digest}"


def _journal(data_dir: Path) -> JournalReader:
    from p2pfl.store.directory import DataDirectory

    return DataDirectory(data_dir).read_journal()


def _pick(journal: JournalReader, blobs: BlobReader, run: RunRow, round_: int | None, best: bool) -> RoundRow:
    """Return the round whose model was asked for, if the model is here."""
    from p2pfl.errors import UserError

    rounds = [row for row in journal.rounds(run.run) if row.kind == "train"]
    if not rounds:
        raise UserError(f"run {run.run[:SHORT]} has no committed round yet; wait until its first one is")
    if best:
        digest = journal.best(run.run)
        if digest is None:
            raise UserError(
                f"no model of run {run.run[:SHORT]} was evaluated yet; leave --best out to get the last one"
            )
        wanted = [row for row in rounds if row.digest == digest]
    elif round_ is not None:
        wanted = [row for row in rounds if row.training_round == round_]
    else:
        wanted = rounds[-1:]
    if not wanted:
        raise UserError(
            f"run {run.run[:SHORT]} has no training round {round_}; "
            f"it has {rounds[0].training_round} to {rounds[-1].training_round}"
        )
    if not blobs.has(wanted[-1].digest):
        here = ", ".join(str(row.training_round) for row in rounds if blobs.has(row.digest)) or "none"
        raise UserError(
            f"the model of round {wanted[-1].training_round} is not here "
            f"(a node keeps the last two and the best); rounds whose model is here: {here}"
        )
    return wanted[-1]


def exclusion_lines(rounds: Iterable[RoundRow]) -> list[str]:
    """Return a line for each member that one of *rounds* has removed because it was kicked or banned."""
    from p2pfl.statements import exclusions_in
    from p2pfl.text import one_line

    return [
        f"! round {row.training_round}: {one_line(part, MAX_NOTE)}"
        for row in rounds
        for part in exclusions_in(row.note)
    ]


def provisional_note(rounds: Iterable[RoundRow]) -> str:
    """Return an explanation of the marked, only reported metrics; empty if there are none."""
    from p2pfl.report.terminal import PROVISIONAL

    notes = [
        f"round {row.training_round} by {len(row.scores)} of {len(row.members)} members "
        f"on {row.examples} samples"
        for row in rounds
        if row.primary_value is not None and not row.committed
    ]
    return f"{PROVISIONAL} reported, not committed: {'; '.join(notes)}." if notes else ""


def state_of(run: RunRow, rounds: Sequence[RoundRow]) -> str:
    """Describe the state of *run*, with these training *rounds*, in a few words."""
    empty = sum(1 for row in rounds if not row.updates)
    if run.ended and run.origin is None and rounds and empty == len(rounds):
        return "ended, but no update was ever counted: the model is not trained"
    if run.ended:
        state = "complete" if run.trained >= run.rounds else "stopped"
    else:
        state = "given up" if run.closed else "unfinished"
    return f"{state}, {empty} of them without any update" if empty else state


def _show(run: RunRow, rounds: Sequence[RoundRow], others: int) -> None:
    """Print the run's heading, its rounds, and how many other runs there are."""
    from rich.console import Console

    from p2pfl.report.terminal import round_table
    from p2pfl.spec import describe_run
    from p2pfl.text import one_line

    typer.echo(
        f"Run {run.run[:SHORT]}: {one_line(describe_run(run.spec))}; "
        f"{run.trained} of {run.rounds} rounds, "
        f"{state_of(run, rounds)}."
    )
    if run.origin is not None:
        typer.echo(
            f"It continues run {run.origin.run[:SHORT]} after {run.origin.trained} rounds of training "
            f"(record {run.origin.record[:SHORT]})."
        )
    for note in run.agreement.notes:
        typer.echo(f"! {one_line(note, MAX_NOTE)}")
    if rounds:
        Console(highlight=False).print(round_table(rounds, SHORT))
        if note := provisional_note(rounds):
            typer.echo(note)
        for line in exclusion_lines(rounds):
            typer.echo(line)
    if others:
        typer.echo(f"{others} earlier {'run' if others == 1 else 'runs'} here: see --run.")
